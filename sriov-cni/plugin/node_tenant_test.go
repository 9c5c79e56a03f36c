// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A device that the host itself uses is not given to a pod, whoever names it.
func TestNodeHostUseIsRefused(t *testing.T) { inBothStates(t, 0, 2, hostUseIsRefused) }

func hostUseIsRefused(t *testing.T, v vf) {
	v.unchanged(t)
	before := v.picture(t)
	name := before.Link.Name
	for what, tc := range map[string]struct {
		use      func(t *testing.T)
		fragment string
	}{
		"address": {func(t *testing.T) {
			ip(t, "addr", "add", "198.51.100.7/24", "dev", name)
			t.Cleanup(func() { ip(t, "addr", "flush", "dev", name) })
		}, "198.51.100.7"},
		"default route": {func(t *testing.T) {
			ip(t, "link", "set", name, "up")
			ip(t, "route", "add", "default", "dev", name, "table", "77")
			t.Cleanup(func() {
				ip(t, "route", "del", "default", "dev", name, "table", "77")
				if before.Link.Flags&1 == 0 {
					ip(t, "link", "set", name, "down")
				}
			})
		}, "default route"},
		"bridge": {func(t *testing.T) {
			ip(t, "link", "add", "br7", "type", "bridge")
			ip(t, "link", "set", name, "master", "br7")
			t.Cleanup(func() { ip(t, "link", "del", "br7") })
		}, "br7"},
		"VLAN": {func(t *testing.T) {
			ip(t, "link", "add", "vlan7", "link", name, "type", "vlan", "id", "7")
			t.Cleanup(func() { ip(t, "link", "del", "vlan7") })
		}, "vlan7"},
	} {
		t.Run(what, func(t *testing.T) {
			tc.use(t)
			add, _ := attach(t, v, newPod(t), nil)
			a := add.fails(t, 100, "in use by the host")
			assert.Contains(t, a.Msg, tc.fragment)
			assert.NotNil(t, v.picture(t).Link)
		})
	}
}

// The node's own NICs have no physfn, like the VF of a virtual machine.
func TestNodePlainFunctionIsRefused(t *testing.T) {
	v := needVF(t, 0, 2)
	entries, err := os.ReadDir("/sys/class/net")
	require.NoError(t, err)
	tried := 0
	for _, e := range entries {
		dir, err := filepath.EvalSymlinks("/sys/class/net/" + e.Name() + "/device")
		if err != nil {
			continue
		}
		if _, err := os.Stat(dir + "/vendor"); err != nil { // virtio's interface is its grandchild
			dir = filepath.Dir(dir)
		}
		if _, err := os.Stat(dir + "/sriov_totalvfs"); err == nil {
			continue
		}
		if _, err := os.Stat(dir + "/physfn"); err == nil {
			continue
		}
		if filepath.Base(filepath.Dir(dir)) == "net" {
			continue
		}
		add, _ := attach(t, v, newPod(t), map[string]any{"deviceID": filepath.Base(dir)})
		a := add.try(t)
		assert.Equal(t, 1, a.exit)
		_, err = os.Stat("/sys/class/net/" + e.Name())
		require.NoError(t, err, "%s left the host", e.Name())
		tried++
	}
	t.Logf("%d functions tried", tried)
}

func TestNodeLogFileOfATenant(t *testing.T) { inBothStates(t, 0, 2, logFileOfATenant) }

func logFileOfATenant(t *testing.T, v vf) {
	v.unchanged(t)
	target := filepath.Join(t.TempDir(), "z.sh")
	add, del := attach(t, v, newPod(t), map[string]any{"logFile": target, "logLevel": "debug"})
	a := add.ok(t)
	assert.NoFileExists(t, target)
	assert.Contains(t, a.stderr, "invalid logFile")
	assert.Contains(t, a.stderr, "VF given to pod")
	del.ok(t)
	add.with(map[string]any{"logFile": "/var/log/sriov-cni/a.log"}).ok(t)
	b, err := os.ReadFile("/var/log/sriov-cni/a.log")
	require.NoError(t, err)
	assert.Contains(t, string(b), "VF given to pod")
}
