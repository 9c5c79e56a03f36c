// SPDX-License-Identifier: Apache-2.0

package kubelet_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sriovkit/sriovkit/device-plugin/allocation"
	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/internal/kubelettest"
	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
	"github.com/sriovkit/sriovkit/device-plugin/metrics"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var nic = config.Resource{Prefix: "example.com", Name: "nic"}

// plugin is one endpoint that runs.
type plugin struct {
	*kubelet.Endpoint
	metrics *metrics.Metrics
	stop    func()
}

// run serves a resource with the given devices until stop or the test's end.
func run(t testing.TB, root string, r config.Resource, devices ...string) plugin {
	t.Helper()
	return begin(t, root, r, func(p plugin) { p.publish(devices...) })
}

func begin(t testing.TB, root string, r config.Resource, first func(plugin)) plugin {
	t.Helper()
	w, err := kubelet.Watch(kubelet.Dirs(root))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	watched, ended := make(chan error, 1), make(chan struct{})
	go func() { watched <- w.Run(ctx) }()
	p := plugin{metrics: metrics.New("test")}
	p.Endpoint = kubelet.NewEndpoint(r, kubelet.Dirs(root), w, p.metrics, slog.New(slog.DiscardHandler))
	first(p)
	own, stop := context.WithCancel(context.Background())
	go func() {
		defer close(ended)
		p.Run(own)
	}()
	p.stop = func() {
		stop()
		<-ended
	}
	t.Cleanup(func() {
		p.stop()
		cancel()
		require.NoError(t, <-watched)
	})
	return p
}

// publish offers devices; "ID!" is an unhealthy one.
func (p plugin) publish(devices ...string) {
	pool := kubelet.Pool{
		Prefer: func(available, _ []string, size int) []string { return available[:size] },
		Allocate: func(ids []string) (allocation.Answer, error) {
			if ids[0] == "?" {
				return allocation.Answer{}, fmt.Errorf("%q: %w", "?", allocation.ErrUnknownDevice)
			}
			return allocation.Answer{
				Env:   map[string]string{"DEVICES": strings.Join(ids, ",")},
				Nodes: []allocation.Node{{Host: "/dev/vfio/noiommu-1", Container: "/dev/vfio/1"}},
				CDI:   []string{"example.com/net-pci=a"},
			}, nil
		},
	}
	for _, d := range devices {
		id, sick := strings.CutSuffix(d, "!")
		pool.Devices = append(pool.Devices, kubelet.Device{ID: id, Healthy: !sick, NUMA: 1})
	}
	p.Publish(pool)
}

// modes runs a test in both ways of registration.
func modes(t *testing.T, test func(t *testing.T, watched bool)) {
	for name, watched := range map[string]bool{"plugin watcher": true, "register call": false} {
		t.Run(name, func(t *testing.T) { test(t, watched) })
	}
}

// Kubelet takes its time to register; it does so before anybody has looked for devices,
// and hears of no list that is not true.
func TestRegistersBeforeDevicesAreKnown(t *testing.T) {
	modes(t, func(t *testing.T, watched bool) {
		root := kubelettest.Root(t, watched)
		k := kubelettest.Start(t, root)
		p := begin(t, root, nic, func(plugin) {})
		require.Eventually(t, p.Watched, 5*time.Minute, time.Millisecond)
		require.Zero(t, k.Lists(nic.String()))
		p.publish()
		require.Eventually(t, func() bool { return k.Lists(nic.String()) == 1 }, 5*time.Minute, time.Millisecond)
		p.publish("a")
		k.AwaitDevices(nic.String(), "a")
		require.Equal(t, 2, k.Lists(nic.String()))
	})
}

func TestKubeletSeesDevices(t *testing.T) {
	modes(t, func(t *testing.T, watched bool) {
		root := kubelettest.Root(t, watched)
		k := kubelettest.Start(t, root)
		p := run(t, root, nic, "a", "b")
		k.AwaitDevices(nic.String(), "a", "b")
		require.Equal(t, 1, k.NUMA(nic.String(), "a"))
		p.publish("a", "b!", "c")
		k.AwaitDevices(nic.String(), "a", "b!", "c")
		lists := k.Lists(nic.String())
		p.publish("a", "b!", "c")
		p.publish("c")
		k.AwaitDevices(nic.String(), "c")
		require.Equal(t, lists+1, k.Lists(nic.String()), "an equal list is not sent again")
		require.True(t, p.Watched())
	})
}

func TestAllocate(t *testing.T) {
	root := kubelettest.Root(t, true)
	k := kubelettest.Start(t, root)
	p := run(t, root, nic, "a", "b")
	k.AwaitCount(nic.String(), 2)
	r, err := k.Allocate(nic.String(), "b", "a")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"DEVICES": "b,a"}, r.Envs)
	require.Len(t, r.Devices, 1)
	require.Equal(t, "/dev/vfio/noiommu-1 /dev/vfio/1 rw", r.Devices[0].HostPath+" "+r.Devices[0].ContainerPath+" "+r.Devices[0].Permissions)
	require.Equal(t, "example.com/net-pci=a", r.CdiDevices[0].Name)
	require.Empty(t, r.Mounts)
	_, err = k.Allocate(nic.String(), "?")
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.Equal(t, []string{"a"}, k.Preferred(nic.String(), []string{"a", "b"}, nil, 1))
	require.Equal(t, 1.0, testutil.ToFloat64(p.metrics.Allocations.WithLabelValues(nic.String(), "ok")))
	require.Equal(t, 1.0, testutil.ToFloat64(p.metrics.Allocations.WithLabelValues(nic.String(), "error")))
}

// Kubelet restarts a hundred times, comes back at once or late, and nothing
// piles up in the plugin.
func TestKubeletRestarts(t *testing.T) {
	modes(t, func(t *testing.T, watched bool) {
		root := kubelettest.Root(t, watched)
		p := run(t, root, nic, "a")
		count := func() (goroutines, files int) {
			open, err := os.ReadDir("/proc/self/fd")
			require.NoError(t, err)
			return runtime.NumGoroutine(), len(open)
		}
		var goroutines, files int
		for i := range 100 {
			k := kubelettest.Start(t, root)
			k.AwaitCount(nic.String(), 1)
			k.Stop()
			eventually(t, func() bool { return !p.Watched() }, "the stream does not end with kubelet")
			if i == 9 { // whatever is made once has been made
				goroutines, files = count()
			}
		}
		// Kubelets' own leftovers end a moment after Stop.
		eventually(t, func() bool {
			g, f := count()
			return g <= goroutines && f <= files
		}, "goroutines or files pile up")
	})
}

// eventually is require.Eventually without goroutines of its own.
func eventually(t *testing.T, condition func() bool, otherwise string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !condition(); time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(deadline), otherwise)
	}
}

func TestKubeletComesLate(t *testing.T) {
	modes(t, func(t *testing.T, watched bool) {
		root := kubelettest.Root(t, watched)
		run(t, root, nic, "a")
		socket := filepath.Join(root, "device-plugins", "kubelet.sock")
		require.NoFileExists(t, socket)
		// What a kubelet that is gone leaves behind: nobody answers.
		require.NoError(t, os.WriteFile(socket, nil, 0o600))
		kubelettest.Start(t, root).AwaitCount(nic.String(), 1)
	})
}

func TestRegistrationIsRefused(t *testing.T) {
	modes(t, func(t *testing.T, watched bool) {
		root := kubelettest.Root(t, watched)
		k := kubelettest.Start(t, root, kubelettest.Refusing(3))
		run(t, root, nic, "a")
		k.AwaitCount(nic.String(), 1)
	})
}

func TestSocketIsDeleted(t *testing.T) {
	modes(t, func(t *testing.T, watched bool) {
		root := kubelettest.Root(t, watched)
		k := kubelettest.Start(t, root)
		run(t, root, nic, "a")
		k.AwaitCount(nic.String(), 1)
		dir := map[bool]string{true: "plugins_registry", false: "device-plugins"}[watched]
		socket := filepath.Join(root, dir, "example.com_nic.sock")
		require.NoError(t, os.Remove(socket))
		eventually(t, func() bool { _, err := os.Stat(socket); return err == nil }, "the socket does not come back")
		k.AwaitCount(nic.String(), 1)
	})
}

func TestStreamIsCut(t *testing.T) {
	root := kubelettest.Root(t, true)
	k := kubelettest.Start(t, root)
	p := run(t, root, nic, "a")
	k.AwaitCount(nic.String(), 1)
	k.Cut(nic.String())
	k.AwaitGone(nic.String())
	eventually(t, func() bool { return !p.Watched() }, "the stream does not end")
	k.Stop()
	kubelettest.Start(t, root).AwaitCount(nic.String(), 1)
}

func TestRegistryAppears(t *testing.T) {
	root := kubelettest.Root(t, false)
	k := kubelettest.Start(t, root)
	run(t, root, nic, "a")
	k.AwaitCount(nic.String(), 1)
	k.Stop()
	require.NoError(t, os.Mkdir(filepath.Join(root, "plugins_registry"), 0o750))
	kubelettest.Start(t, root).AwaitCount(nic.String(), 1)
	require.FileExists(t, filepath.Join(root, "plugins_registry", "example.com_nic.sock"))
	require.NoFileExists(t, filepath.Join(root, "device-plugins", "example.com_nic.sock"))
}

func TestDirectoriesAppear(t *testing.T) {
	root := t.TempDir()
	run(t, root, nic, "a")
	require.NoError(t, os.Mkdir(filepath.Join(root, "plugins_registry"), 0o750))
	kubelettest.Start(t, root).AwaitCount(nic.String(), 1)
}

func TestWithdraws(t *testing.T) {
	modes(t, func(t *testing.T, watched bool) {
		root := kubelettest.Root(t, watched)
		k := kubelettest.Start(t, root)
		p := run(t, root, nic, "a")
		k.AwaitCount(nic.String(), 1)
		p.stop()
		k.AwaitDevices(nic.String())
		k.AwaitGone(nic.String())
		sockets, err := filepath.Glob(filepath.Join(root, "*", "example.com_*"))
		require.NoError(t, err)
		require.Empty(t, sockets)
	})
}

func TestNamesThatAreLong(t *testing.T) {
	root := kubelettest.Root(t, true)
	k := kubelettest.Start(t, root)
	for i := range 2 {
		r := config.Resource{Prefix: strings.Repeat("long.", 40) + "example.com", Name: fmt.Sprintf("nic%d", i)}
		run(t, root, r, "a")
		k.AwaitCount(r.String(), 1)
	}
}

// Just after its start kubelet lists no pods, or some. Nothing is known before it lists the
// pod that asks.
func TestKubeletThatDoesNotKnowItsPodsYet(t *testing.T) {
	none, one := kubelettest.Root(t, true), kubelettest.Root(t, true)
	kubelettest.Start(t, none)
	kubelettest.Start(t, one, kubelettest.Holding(nic.String(), "a")) // by default/pod
	for _, tc := range []struct {
		host, namespace, name, self string
		empty, other                bool // is such a list believed?
	}{
		{"", "", "", "", true, true},
		{"10.0.0.1", "", "", kubelet.AnyPod, false, true},
		{"10.0.0.1", "", "pod", kubelet.AnyPod, false, true},
		{"10.0.0.1", "kube-system", "sriovdp-x", "kube-system/sriovdp-x", false, false},
		{"", "default", "pod", "default/pod", false, true},
	} {
		t.Setenv("KUBERNETES_SERVICE_HOST", tc.host)
		t.Setenv("POD_NAMESPACE", tc.namespace)
		t.Setenv("POD_NAME", tc.name)
		require.Equal(t, tc.self, kubelet.Self())
		for root, believed := range map[string]bool{none: tc.empty, one: tc.other} {
			socket := kubelet.Dirs(root).PodResources()
			_, err := kubelet.Holders(t.Context(), socket, tc.self)
			_, _, err2 := kubelet.Listed(t.Context(), socket, tc.self)
			if believed {
				require.NoError(t, err)
				require.NoError(t, err2)
				continue
			}
			require.ErrorIs(t, err, kubelet.ErrNotListed)
			require.ErrorIs(t, err2, kubelet.ErrNotListed)
		}
	}
}

func TestHolders(t *testing.T) {
	root := kubelettest.Root(t, true)
	socket := kubelet.Dirs(root).PodResources()
	_, err := kubelet.Holders(t.Context(), socket, "")
	require.ErrorIs(t, err, kubelet.ErrNoPodResources)
	k := kubelettest.Start(t, root, kubelettest.Holding(nic.String(), "a", "b"))
	got, err := kubelet.Holders(t.Context(), socket, "")
	require.NoError(t, err)
	require.Equal(t, []kubelet.Holder{
		{Resource: nic, Device: "a", Namespace: "default", Pod: "pod", Container: "main"},
		{Resource: nic, Device: "b", Namespace: "default", Pod: "pod", Container: "main"},
	}, got)
	k.Stop()
	_, err = kubelet.Holders(t.Context(), socket, "")
	require.Error(t, err)
	require.NotErrorIs(t, err, kubelet.ErrNoPodResources)
}
