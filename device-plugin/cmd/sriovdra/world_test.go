// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/sriovkit/sriovkit/device-plugin/internal/kubelettest"
	"github.com/sriovkit/sriovkit/device-plugin/metrics"
	"github.com/sriovkit/sriovkit/device-plugin/plugin"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	resourceName = "example.com/vfs"
	patience     = time.Minute
	tick         = 2 * time.Millisecond
)

// world is a node of VFs with both programs at hand. The test is kubelet, by its protocols,
// the scheduler, and the operator with its DaemonSets; the API server is client-go's fake,
// unless the environment names a real one.
type world struct {
	testing.TB
	api  kubernetes.Interface
	fake *fake.Clientset // api, unless that is a real one, see realAPI
	// reactions are fake's.
	reactions *kubelettest.Reactions
	kube      *kubelettest.Kubelet
	root      string // of kubelet
	dir       string // all other directories
	config    string
	hands     hands

	metrics      string // address; none if empty
	orphansEvery time.Duration
	looks        atomic.Int64 // of the driver at kubelet's pods
	instances    atomic.Int64 // that were started
	kubeconfig   string       // of instances that are processes

	scheduling sync.Mutex
	driver     *program // sriovdra
	plugin     *program // sriovdp
	held       []string // by pods of the device plugin
}

// realAPI in the environment is the kubeconfig of an administrator of a real API server, which
// has the Node, the driver's manifests and the namespace of the claims; with _DRIVER at its end
// it is the driver's. It is for tests of one world at a time whose driver is a process.
const realAPI = "SRIOVKIT_TEST_API"

// program is one of the two, in this process.
type program struct {
	stop   context.CancelFunc
	ended  chan error
	health string // socket of sriovdra
}

func (p *program) end(t testing.TB) {
	t.Helper()
	if p != nil {
		p.stop()
		require.NoError(t, <-p.ended)
	}
}

func newWorld(t testing.TB, pfs, vfs int) *world {
	t.Helper()
	w := &world{TB: t, dir: t.TempDir(), root: kubelettest.Root(t, true)}
	w.config = filepath.Join(w.dir, "config.json")
	tree := filepath.Join(w.dir, "tree")
	require.NoError(t, os.Mkdir(tree, 0o755))
	require.NoError(t, sriovtest.Unpack(tree, sriovtest.Generate(sriovtest.Spec{PFs: pfs, VFs: vfs})))
	require.NoError(t, os.WriteFile(w.config, []byte(`{"resourceList": [{"resourceName": "vfs", "selectors": {"drivers": ["iavf"]}}]}`), 0o600))
	if w.kubeconfig = os.Getenv(realAPI + "_DRIVER"); w.kubeconfig != "" {
		config, err := clientcmd.BuildConfigFromFlags("", os.Getenv(realAPI))
		require.NoError(t, err)
		w.api, err = kubernetes.NewForConfig(config)
		require.NoError(t, err)
	} else {
		w.fake = fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node", UID: "n"}})
		w.reactions = kubelettest.NameSlices(w.fake)
		w.api = w.fake
	}
	w.newKubelet()
	t.Cleanup(func() {
		w.driver.end(t)
		w.plugin.end(t)
	})
	return w
}

func (w *world) newKubelet() { w.kube = kubelettest.Start(w, w.root, kubelettest.Asked(&w.looks)) }

var (
	getNow    metav1.GetOptions
	listNow   metav1.ListOptions
	createNow metav1.CreateOptions
	updateNow metav1.UpdateOptions
	deleteNow metav1.DeleteOptions
)

// args are those of one more instance.
func (w *world) args() (args []string, healthSocket string) {
	health := filepath.Join(w.root, fmt.Sprintf("health%d.sock", w.instances.Add(1)))
	return []string{
		"-node-name", "node", "-config-file", w.config, "-resource-prefix", "example.com", "-sysfs-root", filepath.Join(w.dir, "tree"), "-captured",
		"-kubelet-dir", w.root, "-cdi-dir", filepath.Join(w.dir, "cdi"), "-device-info-dir", filepath.Join(w.dir, "devinfo"),
		"-attachments-dir", filepath.Join(w.dir, "attachments"), "-pod-uid", string(uuid.NewUUID()), "-health-socket", health,
		"-metrics-address", w.metrics,
	}, health
}

func (w *world) flags() *flags {
	w.Helper()
	args, _ := w.args()
	f, err := parseFlags(args, io.Discard)
	require.NoError(w, err)
	f.inventory.WaitForConfig = true
	f.orphansEvery = cmp.Or(w.orphansEvery, f.orphansEvery)
	return f
}

// newDriver starts an instance of sriovdra.
func (w *world) newDriver() *program {
	w.Helper()
	ctx, stop := context.WithCancel(context.Background())
	f := w.flags()
	p := &program{stop, make(chan error, 1), f.healthSocket}
	go func() { p.ended <- serve(ctx, f, w.api, slog.New(slog.DiscardHandler)) }()
	return p
}

func (w *world) newPlugin() *program {
	w.Helper()
	f := w.flags()
	f.inventory.Rescan = time.Hour
	f.inventory.Records = filepath.Join(f.pluginDir(), "claims")
	o := plugin.Options{Options: f.inventory, DevRoot: f.devRoot, CDIDir: f.cdiDir, DeviceInfoDir: f.deviceInfoDir}
	dp, err := plugin.New(o, metrics.New("test"), slog.New(slog.DiscardHandler))
	require.NoError(w, err)
	ctx, stop := context.WithCancel(context.Background())
	p := &program{stop, make(chan error, 1), ""}
	go func() { p.ended <- dp.Run(ctx) }()
	return p
}

// mode labels the node, and does what the DaemonSets do then.
func (w *world) mode(label string) {
	w.Helper()
	w.label(label)
	wants := func(p **program, begin func() *program, wanted bool) {
		switch {
		case wanted && *p == nil:
			*p = begin()
		case !wanted:
			(*p).end(w)
			*p = nil
		}
	}
	dp, dra := label == "" || label == "dra-rest", strings.HasPrefix(label, "dra")
	if dp {
		wants(&w.driver, w.newDriver, dra)
		wants(&w.plugin, w.newPlugin, dp)
	} else {
		wants(&w.plugin, w.newPlugin, dp)
		wants(&w.driver, w.newDriver, dra)
	}
}

// offered are the devices in the node's slices, by the IDs that they have on the node.
func (w *world) offered() (out []string) {
	w.Helper()
	list, err := w.api.ResourceV1().ResourceSlices().List(context.Background(), metav1.ListOptions{})
	require.NoError(w, err)
	for _, s := range list.Items {
		for _, d := range s.Spec.Devices {
			id, ok := pool.DeviceID(d.Name)
			require.True(w, ok)
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

func (w *world) awaitOffered(want ...string) {
	w.Helper()
	slices.Sort(want)
	var got []string
	w.await(func() bool { got = w.offered(); return slices.Equal(got, want) }, func() string { return fmt.Sprintf("offered: %v, want %v", got, want) })
}

func (w *world) await(condition func() bool, says func() string) {
	w.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(tick) {
		if time.Now().After(deadline) {
			require.FailNow(w, says())
		}
	}
}

// leave takes the node back to the device plugin as the operator does. Its own tests are
// beside a real API server.
func (w *world) leave() {
	w.Helper()
	w.mode("dra-leaving")
	w.awaitOffered()
	w.scheduling.Lock()   // what was decided on before is written: the operator leaves time for it
	w.scheduling.Unlock() //nolint:staticcheck // nothing is to be done meanwhile
	w.await(w.allPrepared, func() string { return "a claim is not prepared" })
	w.mode("dra-rest")
	w.await(func() bool { return len(w.claims()) == 0 }, func() string { return fmt.Sprint("claims left: ", len(w.claims())) })
	w.mode("")
}

// label labels the node.
func (w *world) label(mode string) {
	w.Helper()
	nodes := w.api.CoreV1().Nodes()
	node, err := nodes.Get(context.Background(), "node", getNow)
	require.NoError(w, err)
	node.Labels = map[string]string{"sriovkit.io/resource-mode": mode}
	_, err = nodes.Update(context.Background(), node, updateNow)
	require.NoError(w, err)
}

func (w *world) claims() []resourceapi.ResourceClaim {
	list, err := w.api.ResourceV1().ResourceClaims("").List(context.Background(), metav1.ListOptions{})
	require.NoError(w, err)
	return list.Items
}

// running is an annotation by which the test says that a claim's pod runs.
const running = "test/running"

func (w *world) allPrepared() bool {
	return !slices.ContainsFunc(w.claims(), func(c resourceapi.ResourceClaim) bool { return c.Annotations[running] == "" })
}

// records are the VFs that claims have on disk; a second witness beside hands.
func (w *world) records() (map[string]string, error) {
	all, err := record.Store{Dir: filepath.Join(w.root, "plugins", driverName, "claims")}.All()
	out := map[string]string{}
	for _, c := range all {
		for _, r := range c.Requests {
			for _, d := range r.Devices {
				if other, twice := out[d.ID]; twice {
					return nil, fmt.Errorf("%s is in the records of %s and of %s", d.ID, other, c.Name)
				}
				out[d.ID] = c.Name
			}
		}
	}
	return out, err
}

func vfs(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("0000:01:%02x.%d", 1+i/8, i%8)
	}
	return out
}

func (w *world) leftovers() []string {
	found := map[string]bool{}
	for _, dir := range []string{filepath.Join(w.dir, "cdi"), filepath.Join(w.dir, "devinfo"), filepath.Join(w.root, "plugins", driverName, "claims")} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if strings.Contains(e.Name(), "_claim_") || strings.HasSuffix(e.Name(), ".json") {
				found[e.Name()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
