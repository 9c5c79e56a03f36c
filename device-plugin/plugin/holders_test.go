// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/sriovkit/sriovkit/device-plugin/internal/kubelettest"
	"github.com/sriovkit/sriovkit/device-plugin/internal/testhost"
	"github.com/stretchr/testify/require"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

func (n *node) info(resource, id string) string {
	return filepath.Join(n.options.DeviceInfoDir, "example.com-"+resource+"-"+id+"-device.json")
}

// rescans waits until the plugin has looked at the host twice more, the second time from
// beginning to end.
func (n *node) rescans() {
	n.t.Helper()
	count := func() float64 {
		return testutil.ToFloat64(n.metrics.Rescans.WithLabelValues("periodic"))
	}
	before := count()
	n.eventually(func() bool { return count() > before+1 }, "no rescan")
}

// While kubelet does not tell who holds what, nothing is offered that somebody may have, and
// no file is removed.
func TestStartWhileKubeletIsSilent(t *testing.T) {
	n := newNode(t, true, pool("b", `"pfNames": ["pf0"]`))
	held := n.info("a", testhost.VF0)
	testhost.Write(t, "/", held, "{}")
	old := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(held, old, old))
	k := n.kubelet(kubelettest.Silent(), kubelettest.Holding(a, testhost.VF0))
	n.start()
	n.eventually(func() bool { return testutil.ToFloat64(n.metrics.Watching.WithLabelValues(b)) == 1 }, "not registered")
	n.rescans()
	require.Zero(t, k.Lists(b))
	require.ErrorContains(t, n.plugin.Ready(), "kubelet does not tell which devices pods hold")
	require.FileExists(t, held)

	k.Silence(false)
	k.AwaitDevices(b, testhost.VF1, testhost.VF2, testhost.VF3)
	require.FileExists(t, held)
	k.Hold(a)
	k.AwaitDevices(b, testhost.VF0, testhost.VF1, testhost.VF2, testhost.VF3)
	n.eventually(func() bool { _, err := os.Stat(held); return os.IsNotExist(err) }, "the file of a free device stays")
}

// The same while it runs: nothing changes hands until kubelet answers.
func TestNothingMovesWhileKubeletIsSilent(t *testing.T) {
	n := newNode(t, true, pool("a", `"pfNames": ["pf0#0-1"]`), pool("b", `"pfNames": ["pf0#2-3"]`))
	k := n.kubelet()
	n.start()
	k.AwaitDevices(a, testhost.VF0, testhost.VF1)
	k.AwaitDevices(b, testhost.VF2, testhost.VF3)
	k.Silence(true)
	n.configure(pool("a", `"pfNames": ["pf0#0"]`), pool("b", `"pfNames": ["pf0#1-3"]`))
	k.AwaitDevices(a, testhost.VF0, testhost.VF1+"!")
	n.rescans()
	k.AwaitDevices(b, testhost.VF2, testhost.VF3)
	k.Silence(false)
	k.AwaitDevices(a, testhost.VF0)
	k.AwaitDevices(b, testhost.VF1, testhost.VF2, testhost.VF3)
}

// What pods hold is known from kubelet, so that it survives a restart: a device that has
// vanished or changed meanwhile stays in the list and in its CDI specification.
func TestHeldDevicesSurviveARestart(t *testing.T) {
	for name, change := range map[string]func(n *node){
		"driver lost": func(n *node) { testhost.Function(t, n.root, testhost.VF1, "20000", "8086:154C", "", 0) },
		"deselected":  func(n *node) { n.configure(pool("a", `"pfNames": ["pf0#0"]`), pool("b", `"pfNames": ["pf0#1"]`)) },
		"gone": func(n *node) {
			testhost.SetVFs(t, n.root, testhost.PF, testhost.VF0)
			testhost.Remove(t, n.root, testhost.VF1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, true, pool("a", `"pfNames": ["pf0#0-1"]`))
			n.options.UseCDI = true
			k := n.kubelet()
			n.start()
			k.AwaitDevices(a, testhost.VF0, testhost.VF1)
			_, err := k.Allocate(a, testhost.VF1)
			require.NoError(t, err)
			k.Hold(a, testhost.VF1)
			require.NoError(t, n.stop())
			change(n)
			n.start()
			k.AwaitDevices(a, testhost.VF0, testhost.VF1+"!")
			require.FileExists(t, n.info("a", testhost.VF1))
			cache, err := cdi.NewCache(cdi.WithSpecDirs(n.options.CDIDir), cdi.WithAutoRefresh(false))
			require.NoError(t, err)
			device := cache.GetDevice("example.com/net-pci=" + testhost.VF1)
			require.NotNil(t, device)
			require.Equal(t, "/dev/vfio/21", device.ContainerEdits.DeviceNodes[1].Path)
			k.Hold(a)
			k.AwaitDevices(a, testhost.VF0)
			n.eventually(func() bool { _, err := os.Stat(n.info("a", testhost.VF1)); return os.IsNotExist(err) }, "device info stays")
		})
	}
}

// After a reboot kubelet starts containers with the answers that it has; their files are
// gone.
func TestDeviceInfoAfterAReboot(t *testing.T) {
	n := newNode(t, true, pool("a", `"pfNames": ["pf0#0-1"]`))
	k := n.kubelet(kubelettest.Holding(a, testhost.VF0))
	n.start()
	k.AwaitDevices(a, testhost.VF0, testhost.VF1)
	n.eventually(func() bool { _, err := os.Stat(n.info("a", testhost.VF0)); return err == nil }, "no device info")
	require.NoFileExists(t, n.info("a", testhost.VF1))
}

// As when policies and then the operator are removed: kubelet's checkpoint names a pod that has
// ended, no pool is left that would have it written anew, and the VFs are gone. Should they
// come back, the pod may be one that has not ended.
func TestDeviceInfoOfAVFThatIsGone(t *testing.T) {
	n := newNode(t, true, pool("a", `"pfNames": ["pf0#0-1"]`))
	k := n.kubelet()
	n.start()
	k.AwaitDevices(a, testhost.VF0, testhost.VF1)
	_, err := k.Allocate(a, testhost.VF0)
	require.NoError(t, err)
	k.HoldUnlisted(a, testhost.VF0)
	n.configure()
	n.eventually(func() bool { return testutil.ToFloat64(n.metrics.Reloads.WithLabelValues("ok")) >= 1 }, "no reload")
	n.rescans()
	require.FileExists(t, n.info("a", testhost.VF0))

	testhost.SetVFs(t, n.root, testhost.PF)
	kept := filepath.Join(n.root, "sys/bus/pci/devices", testhost.VF0)
	require.NoError(t, os.Rename(kept, filepath.Join(n.root, "away")))
	n.eventually(func() bool { _, err := os.Stat(n.info("a", testhost.VF0)); return os.IsNotExist(err) }, "the file of a VF that is gone stays")

	require.NoError(t, os.Rename(filepath.Join(n.root, "away"), kept))
	testhost.SetVFs(t, n.root, testhost.PF, testhost.VF0)
	n.configure(pool("a", `"pfNames": ["pf0#0-1"]`))
	n.eventually(func() bool { _, err := os.Stat(n.info("a", testhost.VF0)); return err == nil }, "no device info")
}

// Devices that cannot be listed are not gone.
func TestUnreadableHostWithdrawsNothing(t *testing.T) {
	n := newNode(t, true, pool("a", `"pfNames": ["pf0"]`))
	k := n.kubelet()
	n.start()
	k.AwaitCount(a, 4)
	bus := filepath.Join(n.root, "sys/bus/pci/devices")
	require.NoError(t, os.Rename(bus, bus+".away"))
	n.rescans()
	require.Equal(t, 1, k.Lists(a))
	require.Equal(t, 1.0, testutil.ToFloat64(n.metrics.ReadErrors))
	require.NoError(t, os.Rename(bus+".away", bus))
	testhost.SetVFs(t, n.root, testhost.PF, testhost.VF0)
	testhost.Remove(t, n.root, testhost.VF1)
	k.AwaitDevices(a, testhost.VF0)
}

// A device that a pod has through a claim is not offered as well.
func TestClaimedDeviceIsInUse(t *testing.T) {
	n := newNode(t, true, pool("a", `"pfNames": ["pf0"]`))
	k := n.kubelet()
	k.Claim("c", "0000-01-02-1")
	n.start()
	k.AwaitDevices(a, testhost.VF0, testhost.VF2, testhost.VF3)
	k.Claim("c", "")
	k.AwaitDevices(a, testhost.VF0, testhost.VF1, testhost.VF2, testhost.VF3)
}

// A kubelet that has just started lists no pod, not even this one: what it leaves out is not
// free.
func TestKubeletWithoutItsPods(t *testing.T) {
	n := newNode(t, true, pool("a", `"pfNames": ["pf0#0-1"]`), pool("b", `"pfNames": ["pf0#2-3"]`))
	n.options.Self = "default/claimer"
	k := n.kubelet()
	n.start()
	n.eventually(func() bool { return testutil.ToFloat64(n.metrics.Watching.WithLabelValues(b)) == 1 }, "not registered")
	n.rescans()
	require.Zero(t, k.Lists(b))
	require.ErrorContains(t, n.plugin.Ready(), "kubelet does not tell which devices pods hold")
	k.Claim("c", "0000-01-02-3") // it has heard of the pod
	k.AwaitDevices(a, testhost.VF0, testhost.VF1)
	k.AwaitDevices(b, testhost.VF2)
}

// What a claim has is in use though kubelet does not list it, as long as the DRA driver's
// record is there; a record that cannot be read may be of any device.
func TestRecordedDeviceIsInUse(t *testing.T) {
	for name, asked := range map[string]bool{"kubelet is asked": true, "nobody can be asked": false} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, true, pool("a", `"pfNames": ["pf0"]`))
			if !asked {
				n.options.PodResources = filepath.Join(t.TempDir(), "unmounted/pod-resources/kubelet.sock")
			}
			store := record.Store{Dir: filepath.Join(n.options.KubeletDir, "plugins/sriov.example.com/claims")}
			n.options.Records = store.Dir
			k := n.kubelet()
			n.start()
			all := []string{testhost.VF0, testhost.VF1, testhost.VF2, testhost.VF3}
			k.AwaitDevices(a, all...)
			require.NoError(t, n.stop())
			claim := record.Claim{UID: "1", Namespace: "team", Name: "c", Prepared: true, Requests: []record.Request{
				{Name: "used", Devices: []record.Device{{ID: testhost.VF1}}},
				{Name: "seen", AdminAccess: true, Devices: []record.Device{{ID: testhost.VF2}}},
			}}
			require.NoError(t, store.Save(claim))
			n.start()
			k.AwaitDevices(a, testhost.VF0, testhost.VF2, testhost.VF3)
			testhost.Write(t, store.Dir, "2.json", "{")
			n.eventually(func() bool { return n.plugin.Ready() != nil }, "nobody says that a record is unreadable")
			require.NoError(t, store.Remove("1"))
			n.rescans()
			k.AwaitDevices(a, testhost.VF0, testhost.VF2, testhost.VF3)
			require.NoError(t, os.Remove(filepath.Join(store.Dir, "2.json")))
			k.AwaitDevices(a, all...)
		})
	}
}

// A kubelet that has answered once does not count as one that cannot be asked, whatever
// becomes of its directory.
func TestPodResourcesThatVanish(t *testing.T) {
	n := newNode(t, true, pool("a", `"pfNames": ["pf0#0-1"]`), pool("b", `"pfNames": ["pf0#2-3"]`))
	k := n.kubelet(kubelettest.Holding(a, testhost.VF1))
	n.start()
	k.AwaitDevices(a, testhost.VF0, testhost.VF1)
	k.AwaitDevices(b, testhost.VF2, testhost.VF3)
	away := filepath.Dir(n.options.PodResources)
	require.NoError(t, os.Rename(away, away+".away"))
	n.eventually(func() bool { return n.plugin.Ready() != nil }, "nobody says so")
	n.configure(pool("a", `"pfNames": ["pf0#0"]`), pool("b", `"pfNames": ["pf0#1-3"]`))
	k.AwaitDevices(a, testhost.VF0, testhost.VF1+"!")
	n.rescans()
	k.AwaitDevices(b, testhost.VF2, testhost.VF3)
	require.NoError(t, os.Rename(away+".away", away))
	k.Hold(a)
	k.AwaitDevices(b, testhost.VF1, testhost.VF2, testhost.VF3)
}

func TestCDIOnAnOldKubelet(t *testing.T) {
	n := newNode(t, true, pool("a", `"pfNames": ["pf0"]`))
	n.options.UseCDI = true
	k := n.kubelet(kubelettest.Old())
	n.start()
	k.AwaitCount(a, 4)
	n.eventually(func() bool {
		err := n.plugin.Ready()
		return err != nil && strings.Contains(err.Error(), "needs kubelet 1.28")
	}, "nobody says so")
	k.Stop()
	n.kubelet().AwaitCount(a, 4)
	n.eventually(func() bool { return n.plugin.Ready() == nil }, "still not ready with a newer kubelet")
}

// Devices that no container could get are Unhealthy, until the specification can be written.
func TestCDIDirectoryThatCannotBeWritten(t *testing.T) {
	n := newNode(t, true, pool("a", `"drivers": ["iavf"]`))
	n.options.UseCDI = true
	testhost.Write(t, n.root, "run/cdi", "a file in the place of the directory")
	k := n.kubelet()
	n.start()
	k.AwaitDevices(a, testhost.VF0+"!")
	n.eventually(func() bool {
		err := n.plugin.Ready()
		return err != nil && strings.Contains(err.Error(), "example.com/a: CDI specification")
	}, "nobody says so")
	require.Equal(t, 1.0, testutil.ToFloat64(n.metrics.CDIErrors))
	require.NoError(t, os.Remove(filepath.Join(n.root, "run/cdi")))
	k.AwaitDevices(a, testhost.VF0)
	n.eventually(func() bool { return n.plugin.Ready() == nil }, "never ready")
	require.Zero(t, testutil.ToFloat64(n.metrics.CDIErrors))
}

// A configuration that cannot be read any more is told of, and leaves the old one in force.
func TestUnreadableConfiguration(t *testing.T) {
	for want, replace := range map[string]func(path string) error{
		"is a directory":  func(path string) error { return os.Mkdir(path, 0o755) },
		"no regular file": func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"more than 16777216": func(path string) error {
			return errors.Join(os.WriteFile(path+".new", nil, 0o600), os.Truncate(path+".new", 1<<40), os.Rename(path+".new", path))
		},
	} {
		t.Run(want, func(t *testing.T) {
			n := newNode(t, true, pool("a", `"drivers": ["iavf"]`))
			k := n.kubelet()
			n.start()
			k.AwaitDevices(a, testhost.VF0)
			require.NoError(t, os.Remove(n.options.ConfigFile))
			require.NoError(t, replace(n.options.ConfigFile))
			n.eventually(func() bool {
				err := n.plugin.Ready()
				return err != nil && strings.Contains(err.Error(), want)
			}, "nobody says so")
			require.Zero(t, testutil.ToFloat64(n.metrics.ConfigGood))
			k.AwaitDevices(a, testhost.VF0)
		})
	}
}

// Where nobody can be asked, nothing is removed: pods of an earlier process may need it.
func TestFilesStayWhereNobodyCanBeAsked(t *testing.T) {
	n := newNode(t, true, pool("a", `"pfNames": ["pf0"]`))
	n.options.PodResources = filepath.Join(t.TempDir(), "unmounted/pod-resources/kubelet.sock")
	testhost.Write(t, "/", n.info("a", testhost.VF0), "{}")
	k := n.kubelet()
	n.start()
	k.AwaitCount(a, 4)
	n.rescans()
	require.FileExists(t, n.info("a", testhost.VF0))
}
