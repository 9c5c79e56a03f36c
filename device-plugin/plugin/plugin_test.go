// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sriovkit/sriovkit/device-plugin/internal/kubelettest"
	"github.com/sriovkit/sriovkit/device-plugin/internal/testhost"
	"github.com/sriovkit/sriovkit/device-plugin/inventory"
	"github.com/sriovkit/sriovkit/device-plugin/metrics"
	"github.com/sriovkit/sriovkit/device-plugin/plugin"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a host with a kubelet directory, and a plugin that may run on it.
type node struct {
	t       testing.TB
	options plugin.Options
	root    string // of the host's tree
	plugin  *plugin.Plugin
	metrics *metrics.Metrics
	logged  strings.Builder // read once the plugin has stopped
	stop    func() error
}

// newNode makes the shared test host with a configuration of these pools.
func newNode(t testing.TB, watched bool, pools ...string) *node {
	t.Helper()
	n := &node{t: t, root: testhost.New(t)}
	n.options = plugin.Options{
		Options: inventory.Options{
			ConfigFile: filepath.Join(t.TempDir(), "config.json"), ResourcePrefix: "example.com",
			SysfsRoot: n.root, Captured: true, KubeletDir: kubelettest.Root(t, watched),
			Rescan: 10 * time.Millisecond, // a captured tree has no events
		},
		DevRoot: n.root,
		CDIDir:  filepath.Join(n.root, "run/cdi"), DeviceInfoDir: filepath.Join(n.root, "run/devinfo/dp"),
	}
	n.options.PodResources = filepath.Join(n.options.KubeletDir, "pod-resources/kubelet.sock")
	n.configure(pools...)
	return n
}

// pool is the text of a pool with one selector.
func pool(name, selector string, more ...string) string {
	return fmt.Sprintf(`{"resourceName": %q, "selectors": {%s}%s}`, name, selector, strings.Join(append([]string{""}, more...), ", "))
}

// configure puts a configuration in place of the old one, by rename.
func (n *node) configure(pools ...string) {
	n.t.Helper()
	n.replace(`{"resourceList": [` + strings.Join(pools, ",") + `]}`)
}

func (n *node) replace(text string) {
	n.t.Helper()
	require.NoError(n.t, os.WriteFile(n.options.ConfigFile+".new", []byte(text), 0o600))
	require.NoError(n.t, os.Rename(n.options.ConfigFile+".new", n.options.ConfigFile))
}

// start runs the plugin until stop or the test's end.
func (n *node) start() {
	n.t.Helper()
	n.metrics = metrics.New("test")
	out := io.Writer(&n.logged)
	if testing.Verbose() {
		out = io.MultiWriter(out, n.t.Output())
	}
	var err error
	n.plugin, err = plugin.New(n.options, n.metrics, slog.New(slog.NewTextHandler(out, nil)))
	require.NoError(n.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.plugin.Run(ctx) }()
	stopped := false
	n.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	n.t.Cleanup(func() { require.NoError(n.t, n.stop()) })
}

func (n *node) kubelet(options ...kubelettest.Option) *kubelettest.Kubelet {
	n.t.Helper()
	return kubelettest.Start(n.t, n.options.KubeletDir, options...)
}

// unready awaits a reason for not being ready; there may be others before.
func (n *node) unready(why string) {
	n.t.Helper()
	n.eventually(func() bool {
		err := n.plugin.Ready()
		return err != nil && strings.Contains(err.Error(), why)
	}, "nobody says: "+why)
}

func (n *node) eventually(condition func() bool, otherwise string) {
	n.t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !condition(); time.Sleep(time.Millisecond) {
		require.True(n.t, time.Now().Before(deadline), otherwise)
	}
}

const (
	a = "example.com/a"
	b = "example.com/b"
)

func TestPoolsReachKubelet(t *testing.T) {
	n := newNode(t, true, pool("a", `"pfNames": ["pf0#0-1,3"]`), pool("b", `"pciAddresses": ["02:00.0"]`),
		pool("plain", `"pfNames": ["pf0#2"]`, `"excludeTopology": true`))
	k := n.kubelet()
	n.start()
	k.AwaitDevices(a, testhost.VF0, testhost.VF1, testhost.VF3)
	k.AwaitDevices(b, testhost.NIC)
	k.AwaitDevices("example.com/plain", testhost.VF2)
	require.Equal(t, 0, k.NUMA(a, testhost.VF3))
	require.Equal(t, -1, k.NUMA(b, testhost.NIC), "the firmware does not say")
	require.Equal(t, -1, k.NUMA("example.com/plain", testhost.VF2), "excluded")
	n.eventually(func() bool { return n.plugin.Ready() == nil }, "never ready")
	require.NoError(t, n.plugin.Healthy())
	require.Equal(t, 3.0, testutil.ToFloat64(n.metrics.Devices.WithLabelValues(a, "healthy")))
}

func TestVFsComeAndGo(t *testing.T) {
	n := newNode(t, true, pool("a", `"drivers": ["igbvf"]`))
	k := n.kubelet()
	n.start()
	k.AwaitDevices(a)
	var vfs []string
	for _, id := range []string{"0000:02:10.0", "0000:02:10.4"} {
		testhost.Function(t, n.root, id, "20000", "8086:1520", "igbvf", -1)
		vfs = append(vfs, id)
	}
	testhost.SetVFs(t, n.root, testhost.NIC, vfs...)
	k.AwaitDevices(a, vfs...)

	// A pod takes the first; then all VFs are removed.
	_, err := k.Allocate(a, vfs[0])
	require.NoError(t, err)
	k.Hold(a, vfs[0])
	testhost.SetVFs(t, n.root, testhost.NIC)
	for _, id := range vfs {
		testhost.Remove(t, n.root, id)
	}
	k.AwaitDevices(a, vfs[0]+"!")
	require.Equal(t, 1.0, testutil.ToFloat64(n.metrics.Devices.WithLabelValues(a, "unhealthy")))
}

func TestReboundDeviceChangesPool(t *testing.T) {
	n := newNode(t, true, pool("a", `"drivers": ["iavf"]`), pool("b", `"drivers": ["vfio-pci"]`))
	k := n.kubelet()
	n.start()
	k.AwaitDevices(a, testhost.VF0)
	k.AwaitDevices(b, testhost.VF1, testhost.VF2)
	testhost.Function(t, n.root, testhost.VF1, "20000", "8086:154C", "iavf", 0)
	k.AwaitDevices(a, testhost.VF0, testhost.VF1)
	k.AwaitDevices(b, testhost.VF2)
}

func TestDeviceInUseStaysWithItsPool(t *testing.T) {
	n := newNode(t, true, pool("a", `"pfNames": ["pf0#0-1"]`), pool("b", `"pfNames": ["pf0"]`))
	k := n.kubelet(kubelettest.Holding(a, testhost.VF1))
	n.start()
	k.AwaitDevices(b, testhost.VF2, testhost.VF3)
	n.configure(pool("a", `"pfNames": ["pf0#0"]`), pool("b", `"pfNames": ["pf0"]`))
	k.AwaitDevices(a, testhost.VF0, testhost.VF1+"!") // no new pod gets it
	k.AwaitDevices(b, testhost.VF2, testhost.VF3)     // and no other pool
	k.Hold(a)
	k.AwaitDevices(a, testhost.VF0)
	k.AwaitDevices(b, testhost.VF1, testhost.VF2, testhost.VF3)
}

func TestInterfaceInAPodIsHealthy(t *testing.T) {
	n := newNode(t, true, pool("a", `"drivers": ["iavf"], "linkTypes": ["ether"]`))
	k := n.kubelet()
	n.start()
	k.AwaitDevices(a, testhost.VF0)
	testhost.RemoveNetdev(t, n.root, testhost.VF0, "vf0")
	rescans := func() float64 { return testutil.ToFloat64(n.metrics.Rescans.WithLabelValues("periodic")) }
	before := rescans()
	n.eventually(func() bool { return rescans() > before+2 }, "no rescan")
	k.AwaitDevices(a, testhost.VF0)
	require.Equal(t, 1, k.Lists(a))
}

func TestConfigChanges(t *testing.T) {
	n := newNode(t, true, pool("a", `"drivers": ["iavf"]`), pool("b", `"drivers": ["vfio-pci"]`))
	k := n.kubelet()
	n.start()
	k.AwaitDevices(a, testhost.VF0)
	k.AwaitDevices(b, testhost.VF1, testhost.VF2)
	n.eventually(func() bool { return n.plugin.Ready() == nil }, "never ready")

	n.configure(pool("a", `"drivers": ["iavf"]`), pool("c", `"drivers": ["igb_uio"]`))
	k.AwaitDevices("example.com/c", testhost.VF3)
	k.AwaitGone(b)
	require.NoFileExists(t, filepath.Join(n.options.KubeletDir, "plugins_registry", "example.com_b.sock"))
	require.Equal(t, 1, k.Lists(a), "an unchanged pool notices nothing")

	// A bad one changes nothing, and is told of.
	n.replace(`{"resourceList": [{"resourceName": "a", "selectors": {"driver": ["iavf"]}}]}`)
	n.unready(`config.json:1:55: pool a: unknown key "driver"`)
	require.Zero(t, testutil.ToFloat64(n.metrics.ConfigGood))
	require.Equal(t, 1.0, testutil.ToFloat64(n.metrics.Reloads.WithLabelValues("error")))
	k.AwaitDevices("example.com/c", testhost.VF3)

	// So does its disappearance.
	require.NoError(t, os.Remove(n.options.ConfigFile))
	n.eventually(func() bool {
		err := n.plugin.Ready()
		return err != nil && strings.Contains(err.Error(), "no such file")
	}, "absence goes unnoticed")
	n.configure(pool("c", `"drivers": ["igb_uio"]`))
	k.AwaitGone(a)
	n.eventually(func() bool { return n.plugin.Ready() == nil }, "never ready again")
	require.Equal(t, 1, k.Lists("example.com/c"))
}

func TestConfigMapVolume(t *testing.T) {
	n := newNode(t, true)
	dir := t.TempDir()
	version := func(i int, pools ...string) {
		name := fmt.Sprintf("..2026_%d", i)
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name, "config.json"), []byte(`{"resourceList": [`+strings.Join(pools, ",")+`]}`), 0o600))
		require.NoError(t, os.Symlink(name, filepath.Join(dir, "..data_tmp")))
		require.NoError(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		if i > 1 {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..2026_%d", i-1))))
		}
	}
	version(1, pool("a", `"drivers": ["iavf"]`))
	require.NoError(t, os.Symlink("..data/config.json", filepath.Join(dir, "config.json")))
	n.options.ConfigFile = filepath.Join(dir, "config.json")
	k := n.kubelet()
	n.start()
	k.AwaitDevices(a, testhost.VF0)
	for i := 2; i < 5; i++ {
		name := fmt.Sprintf("v%d", i)
		version(i, pool(name, `"drivers": ["iavf"]`))
		k.AwaitDevices("example.com/"+name, testhost.VF0)
	}
	k.AwaitGone(a)
}

func TestManyPoolsEndAtOnce(t *testing.T) {
	var pools []string
	for i := range 20 {
		pools = append(pools, pool(fmt.Sprintf("p%d", i), `"drivers": ["iavf"]`))
	}
	n := newNode(t, false, pools...)
	k := n.kubelet()
	n.start()
	k.AwaitDevices("example.com/p0", testhost.VF0)
	for i := range 20 {
		k.AwaitCount(fmt.Sprintf("example.com/p%d", i), map[bool]int{true: 1}[i == 0])
	}
	require.NoError(t, n.stop())
	require.NotContains(t, n.logged.String(), "has not read the last list")
	k.AwaitDevices("example.com/p0") // withdrawn, not unhealthy
	for i := range 20 {
		k.AwaitGone(fmt.Sprintf("example.com/p%d", i))
	}
	sockets, err := filepath.Glob(filepath.Join(n.options.KubeletDir, "*", "example.com_*"))
	require.NoError(t, err)
	require.Empty(t, sockets)
}

func TestFilesOfRunningPodsSurvive(t *testing.T) {
	n := newNode(t, true, pool("a", `"pfNames": ["pf0#0-1"]`))
	n.options.UseCDI = true
	k := n.kubelet()
	n.start()
	k.AwaitCount(a, 2)
	for _, id := range []string{testhost.VF0, testhost.VF1} {
		r, err := k.Allocate(a, id)
		require.NoError(t, err)
		require.Equal(t, "example.com/net-pci="+id, r.CdiDevices[0].Name)
		require.Empty(t, r.Devices)
	}
	spec := filepath.Join(n.options.CDIDir, "sriov-dp-example.com-net-pci-a.yaml")
	info := func(id string) string {
		return filepath.Join(n.options.DeviceInfoDir, "example.com-a-"+id+"-device.json")
	}
	k.Hold(a, testhost.VF0)
	require.NoError(t, n.stop())
	require.FileExists(t, spec)
	require.FileExists(t, info(testhost.VF0))

	// Started anew, it knows from kubelet who has what.
	n.start()
	k.AwaitCount(a, 2)
	require.FileExists(t, info(testhost.VF0))
	n.eventually(func() bool { _, err := os.Stat(info(testhost.VF1)); return os.IsNotExist(err) }, "a free device keeps its file")

	// The pool goes while its device is in use, then the device, too.
	n.configure(pool("b", `"pfNames": ["pf0"]`))
	k.AwaitDevices(b, testhost.VF1, testhost.VF2, testhost.VF3)
	require.FileExists(t, spec)
	k.Hold(a)
	k.AwaitDevices(b, testhost.VF0, testhost.VF1, testhost.VF2, testhost.VF3)
}

func TestPreferredAllocation(t *testing.T) {
	n := newNode(t, true, pool("a", `"drivers": ["iavf", "e1000e"]`, `"preference": "spread"`))
	k := n.kubelet()
	n.start()
	k.AwaitDevices(a, testhost.VF0, testhost.ACPI)
	require.Equal(t, []string{testhost.VF0, testhost.ACPI}, k.Preferred(a, []string{testhost.ACPI, testhost.VF0}, nil, 2))
	require.Equal(t, []string{testhost.ACPI}, k.Preferred(a, []string{testhost.ACPI, testhost.VF0}, []string{testhost.ACPI}, 1))
}

func TestScrape(t *testing.T) {
	n := newNode(t, true, pool("a", `"pfNames": ["pf0"]`))
	k := n.kubelet(kubelettest.Holding(a, testhost.VF1))
	k.Hold("example.org/of-others", "x")
	n.start()
	k.AwaitCount(a, 4)
	require.NoError(t, testutil.CollectAndCompare(n.plugin.Traffic(), strings.NewReader(`
# HELP sriov_kubepoddevice A device that a container has; always 1.
# TYPE sriov_kubepoddevice counter
sriov_kubepoddevice{container="main",dev_type="example.com/a",namespace="default",pciAddr="0000:01:02.1",pod="pod"} 1
`)))
	problems, err := testutil.GatherAndLint(n.metrics.Registry)
	require.NoError(t, err)
	require.Empty(t, problems)
}
