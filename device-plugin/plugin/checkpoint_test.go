// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/internal/kubelettest"
	"github.com/sriovkit/sriovkit/device-plugin/internal/testhost"
	"github.com/stretchr/testify/require"
)

// Where nobody can be asked, a device that was given out is not pinned for ever: the
// device manager's checkpoint tells.
func TestCheckpointTellsWhoHoldsWhat(t *testing.T) {
	n := newNode(t, true, pool("b", `"pfNames": ["pf0"]`))
	n.options.PodResources = filepath.Join(t.TempDir(), "unmounted/pod-resources/kubelet.sock")
	k := n.kubelet()
	checkpoint := func(entries string) {
		path := n.checkpoint()
		require.NoError(t, os.WriteFile(path+".new", []byte(`{"Data":{"PodDeviceEntries":[`+entries+`],"RegisteredDevices":{}},"Checksum":1}`), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	entry := `{"PodUID":"u","ContainerName":"c","ResourceName":"example.com/a","DeviceIDs":%s,"AllocResp":""}`
	for _, ids := range []string{`{"0":["` + testhost.VF0 + `"],"-1":[]}`, `["` + testhost.VF0 + `"]`} {
		checkpoint(fmt.Sprintf(entry, ids))
		n.start()
		k.AwaitDevices(b, testhost.VF1, testhost.VF2, testhost.VF3)
		checkpoint("")
		k.AwaitDevices(b, testhost.VF0, testhost.VF1, testhost.VF2, testhost.VF3)
		require.NoError(t, n.stop())
	}
}

// Kubelet's answer leaves out init containers, and just after its start every pod. Its
// checkpoint has them.
func TestHoldersThatKubeletLeavesOut(t *testing.T) {
	n := newNode(t, true, pool("a", `"pfNames": ["pf0#0-1"]`), pool("b", `"pfNames": ["pf0#2-3"]`))
	k := n.kubelet()
	n.start()
	k.AwaitDevices(a, testhost.VF0, testhost.VF1)
	k.AwaitDevices(b, testhost.VF2, testhost.VF3)
	k.HoldUnlisted(a, testhost.VF0, testhost.VF1)
	n.eventually(func() bool { _, err := os.Stat(n.info("a", testhost.VF1)); return err == nil }, "no device info")
	n.configure(pool("a", `"pfNames": ["nothing"]`), pool("b", `"pfNames": ["pf0"]`))
	k.AwaitDevices(a, testhost.VF0+"!", testhost.VF1+"!")
	n.rescans()
	k.AwaitDevices(b, testhost.VF2, testhost.VF3)
	require.FileExists(t, n.info("a", testhost.VF0))
	require.FileExists(t, n.info("a", testhost.VF1))

	k.HoldUnlisted(a) // which kubelet writes down when it is sent a list
	k.AwaitDevices(a)
	k.AwaitDevices(b, testhost.VF0, testhost.VF1, testhost.VF2, testhost.VF3)
}

// What kubelet lists counts more than a checkpoint of before.
func TestListBeforeCheckpoint(t *testing.T) {
	n := newNode(t, true, pool("a", `"pfNames": ["pf0#0-1"]`), pool("b", `"pfNames": ["pf0#2-3"]`))
	kubelettest.Checkpoint(t, n.options.KubeletDir, map[string][]string{a: {testhost.VF2}})
	k := n.kubelet(kubelettest.Holding(b, testhost.VF2))
	n.start()
	k.AwaitDevices(a, testhost.VF0, testhost.VF1)
	k.AwaitDevices(b, testhost.VF2, testhost.VF3)
	n.configure(pool("a", `"pfNames": ["pf0#0-2"]`), pool("b", `"pfNames": ["pf0#3"]`))
	k.AwaitDevices(b, testhost.VF3, testhost.VF2+"!")
	kubelettest.Checkpoint(t, n.options.KubeletDir, nil)
	k.Hold(b)
	k.AwaitDevices(a, testhost.VF0, testhost.VF1, testhost.VF2)
}

// damages of a checkpoint.
var damages = map[string]func(t *testing.T, path string){
	"truncated": func(t *testing.T, path string) { testhost.Write(t, "/", path, `{"Data":{"PodDeviceEntries":[{"Pod`) },
	"empty":     func(t *testing.T, path string) { testhost.Write(t, "/", path, "") },
	"unreadable": func(t *testing.T, path string) {
		_ = os.Remove(path)
		require.NoError(t, os.Symlink(filepath.Base(path), path))
	},
	"pipe": func(t *testing.T, path string) {
		_ = os.Remove(path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, syscall.Mkfifo(path, 0o600))
	},
	"format of another kubelet": func(t *testing.T, path string) { testhost.Write(t, "/", path, `{"v2":{"pods":[]},"Data":{}}`) },
	"entry of another format": func(t *testing.T, path string) {
		testhost.Write(t, "/", path, `{"Data":{"PodDeviceEntries":[{"PodUID":"u","ContainerName":"c","ResourceName":"example.com/a","Devices":["x"]}]}}`)
	},
	"too long": func(t *testing.T, path string) {
		testhost.Write(t, "/", path, "")
		require.NoError(t, os.Truncate(path, 1<<30))
	},
}

func (n *node) checkpoint() string {
	return filepath.Join(n.options.KubeletDir, "device-plugins/kubelet_internal_checkpoint")
}

// A checkpoint that cannot be read any more says what it last said, with and without the
// pod-resources API, until kubelet, which is sent a list for that, has written it anew.
func TestCheckpointThatCannotBeReadAnyMore(t *testing.T) {
	vanished := func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) }
	for name, damage := range maps.All(damages) {
		t.Run(name, func(t *testing.T) { damagedCheckpoint(t, damage, true) })
	}
	t.Run("vanished", func(t *testing.T) { damagedCheckpoint(t, vanished, true) })
	t.Run("vanished, nobody else to ask", func(t *testing.T) { damagedCheckpoint(t, vanished, false) })
	t.Run("truncated, nobody else to ask", func(t *testing.T) { damagedCheckpoint(t, damages["truncated"], false) })
}

func damagedCheckpoint(t *testing.T, damage func(t *testing.T, path string), mounted bool) {
	n := newNode(t, true, pool("a", `"pfNames": ["pf0#0-1"]`), pool("b", `"pfNames": ["pf0#2-3"]`))
	if !mounted {
		n.options.PodResources = filepath.Join(t.TempDir(), "unmounted/pod-resources/kubelet.sock")
	}
	kubelettest.Checkpoint(t, n.options.KubeletDir, map[string][]string{a: {testhost.VF1}})
	k := n.kubelet()
	n.start()
	k.AwaitDevices(a, testhost.VF0, testhost.VF1)
	k.AwaitDevices(b, testhost.VF2, testhost.VF3)
	n.eventually(func() bool { _, err := os.Stat(n.info("a", testhost.VF1)); return err == nil }, "no device info")
	damage(t, n.checkpoint())
	n.unready("the device manager's checkpoint does not tell which devices pods hold")
	n.configure(pool("a", `"pfNames": ["pf0#0"]`), pool("b", `"pfNames": ["pf0#1-3"]`))
	k.AwaitDevices(a, testhost.VF0, testhost.VF1+"!")
	n.rescans()
	k.AwaitDevices(b, testhost.VF2, testhost.VF3)
	require.FileExists(t, n.info("a", testhost.VF1))

	k.HoldUnlisted(a) // from now on kubelet writes its checkpoint with every list
	k.AwaitDevices(a, testhost.VF0)
	k.AwaitDevices(b, testhost.VF1, testhost.VF2, testhost.VF3)
	n.eventually(func() bool { return n.plugin.Ready() == nil }, "never ready")
}

// A checkpoint that cannot be read at the start may name any device: nothing is offered and
// no file is removed before kubelet has written it anew, and it does so for an empty list.
func TestCheckpointThatWasNeverRead(t *testing.T) {
	for name, damage := range maps.All(damages) {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, true, pool("b", `"pfNames": ["pf0"]`))
			held := n.info("a", testhost.VF0)
			testhost.Write(t, "/", held, "{}")
			damage(t, n.checkpoint())
			k := n.kubelet()
			n.start()
			n.eventually(func() bool { return n.plugin.Ready() != nil && k.Lists(b) > 0 }, "kubelet is sent no list")
			n.rescans()
			k.AwaitDevices(b)
			_, err := k.Allocate(b, testhost.VF0)
			require.ErrorContains(t, err, "not a device of this pool")
			require.FileExists(t, held)
			require.ErrorContains(t, n.plugin.Ready(), "the device manager's checkpoint does not tell which devices pods hold")

			k.HoldUnlisted(a, testhost.VF0)
			k.AwaitDevices(b, testhost.VF1, testhost.VF2, testhost.VF3)
			k.HoldUnlisted(a)
			k.AwaitDevices(b, testhost.VF0, testhost.VF1, testhost.VF2, testhost.VF3)
		})
	}
}
