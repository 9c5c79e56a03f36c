// SPDX-License-Identifier: Apache-2.0

// Command sriovdra is a DRA driver: it offers SR-IOV virtual functions and other network
// hardware to Kubernetes in ResourceSlices and prepares them for the claims of pods.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/allocation"
	"github.com/sriovkit/sriovkit/device-plugin/command"
	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/dra/driver"
	"github.com/sriovkit/sriovkit/device-plugin/dra/offer"
	"github.com/sriovkit/sriovkit/device-plugin/dra/prepare"
	"github.com/sriovkit/sriovkit/device-plugin/inventory"
	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
	"github.com/sriovkit/sriovkit/device-plugin/metrics"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/devlink"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// version is set with -ldflags "-X main.version=v0.1.0".
var version = "devel"

func main() {
	os.Exit(command.Main("sriovdra", run, syscall.SIGINT, syscall.SIGTERM))
}

// gcPercent trades a little CPU, of which there is plenty between two changes of the
// hardware, for memory on every node.
const gcPercent = 40

// run does what the flags say. It returns nil after ctx has ended.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	if f.version {
		_, err := fmt.Fprintln(stdout, "sriovdra", version)
		return err
	}
	if f.probe {
		return probe(ctx, f.healthSocket, stdout)
	}
	debug.SetGCPercent(gcPercent)
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: f.logLevel}))
	klog.SetSlogLogger(log)
	log.Info("starting", "version", version, "config", f.inventory.ConfigFile, "node", f.nodeName)
	client, err := newClient(f.kubeconfig)
	if err != nil {
		return err
	}
	return serve(ctx, f, client, log)
}

// serve runs inventory and driver, each of which needs the other.
func serve(ctx context.Context, f *flags, client kubernetes.Interface, log *slog.Logger) error {
	var inv *inventory.Inventory
	d, err := newDriver(f, client, log, prepare.Preparer{
		Give:   func(r config.Resource, ids []string) (func(), error) { return inv.Give(r, ids) },
		Return: func(ids []string) { inv.Return(ids) },
		Holders: func(ctx context.Context) (map[string]config.Resource, error) {
			held, err := inv.Plugged(ctx)
			if errors.Is(err, inventory.ErrCheckpoint) {
				err = fmt.Errorf("%w: %w", prepare.ErrUncertain, err)
			}
			return held, err
		},
		Settled: func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, settleTime)
			defer cancel()
			return inv.Settled(ctx)
		},
	})
	if err != nil {
		return err
	}
	f.inventory.Claims, f.inventory.Driver = d.Claims, f.driverName
	m := metrics.New(version)
	if inv, err = inventory.New(f.inventory, m, log); err != nil {
		return err
	}
	m.Registry.MustRegister(vfTraffic(f.inventory, inv, d, log))
	d.OnDetach(inv.LettingGo)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.WatchAttachments(ctx) })
	group.Go(func() error { return d.WatchMode(ctx) })
	group.Go(func() error { return d.EndOrphans(ctx, f.orphansEvery) })
	group.Go(func() error {
		return follow(ctx, inv, d, &reminder{dirs: kubelet.Dirs(f.inventory.KubeletDir), metrics: m, log: log})
	})
	if f.healthSocket != "" {
		group.Go(func() error { return serveHealth(ctx, f.healthSocket, func() error { return ready(inv, d) }) })
	}
	if f.metricsAddress != "" {
		group.Go(func() error { return serveMetrics(ctx, f.metricsAddress, m.Registry, d, log) })
	}
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-d.Failed():
			return err
		}
	})
	return group.Wait()
}

// follow gives the pools to the driver, now and on each change. It registers the driver with
// kubelet only once the first pools are known: then the devices of running pods' claims are
// complete before kubelet asks for anything.
func follow(ctx context.Context, inv *inventory.Inventory, d *driver.Driver, r *reminder) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer r.group.Wait()
	defer fail(nil)
	started := false
	err := inv.Run(ctx, func(now context.Context, s inventory.State) (again bool) {
		if s.Doubtful {
			r.remind(ctx)
		}
		if !s.Known {
			return false
		}
		var pools []offer.Pool
		for _, p := range s.Pools {
			pools = append(pools, offer.Pool(p))
		}
		d.Update(now, pools)
		if !started {
			if err := d.Start(now); err != nil {
				fail(err)
				return false
			}
			started = true
		}
		return false
	})
	if started {
		d.Stop()
	}
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// ready is nil once kubelet knows the driver and the slices are published. Before it is known
// which pools there are, it says what that waits for.
func ready(inv *inventory.Inventory, d *driver.Driver) error {
	if err := d.Ready(); err != nil {
		return errors.Join(err, inv.Ready())
	}
	return nil
}

// settleTime bounds how long a claim waits for a configuration that has just changed; then
// kubelet asks again.
const settleTime = 5 * time.Second

// newDriver makes the driver. p has what it needs of the inventory.
func newDriver(f *flags, client kubernetes.Interface, log *slog.Logger, p prepare.Preparer) (*driver.Driver, error) {
	host, err := libsriov.Open(f.inventory.SysfsRoot)
	if err != nil {
		return nil, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	facts := &driver.Facts{Host: host, Root: f.inventory.SysfsRoot}
	if !f.inventory.Captured {
		if conn, err := devlink.Open(); err == nil {
			facts.EswitchMode = driver.DevlinkMode(conn)
		} else {
			log.Info("devlink cannot be asked, so modes of embedded switches are not published", "err", err)
		}
	}
	p.BootID, p.Host, p.Drivers = strings.TrimSpace(string(boot)), allocation.Host{Host: host, DevRoot: f.devRoot}, host
	p.CDIDir, p.DeviceInfoDir, p.BindDrivers = f.cdiDir, f.deviceInfoDir, f.bindDrivers
	return driver.New(driver.Options{
		Name: f.driverName, Node: f.nodeName, PodUID: types.UID(f.podUID), Client: client,
		PluginDir: f.pluginDir(), RegistryDir: filepath.Join(f.inventory.KubeletDir, "plugins_registry"), AttachmentsDir: f.attachmentsDir,
		SysfsRoot: f.inventory.SysfsRoot,
		Listed: func(ctx context.Context) (driver.Listed, error) {
			pods, claims, err := kubelet.Listed(ctx, f.inventory.PodResources, f.inventory.Self)
			return driver.Listed{Pods: pods, Claims: claims}, err
		},
		EvictOnNoCarrier: f.evictOnNoCarrier, Facts: facts, Prepare: p,
	}, log), nil
}

func newClient(kubeconfig string) (kubernetes.Interface, error) {
	var cfg *rest.Config
	var err error
	if kubeconfig != "" {
		cfg, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	} else {
		cfg, err = rest.InClusterConfig()
	}
	if err != nil {
		return nil, fmt.Errorf("API server: %w; give -kubeconfig outside of a pod", err)
	}
	cfg.UserAgent = "sriovdra/" + version
	cfg.QPS, cfg.Burst = 50, 100 // as kubelet's; with the default of 5 a second claims wait for slices
	cfg.ContentType, cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	return kubernetes.NewForConfig(cfg)
}
