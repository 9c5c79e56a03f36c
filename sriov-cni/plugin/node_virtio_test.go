// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The driver of the PF knows no settings of VFs, and the VF's interface hangs below a
// virtio device.
func TestNodeVirtio(t *testing.T) {
	host, pf := sriovtest.VirtioVFs(t, 2)
	v, other := vf{VF: pf.VFs[0], host: host}, vf{VF: pf.VFs[1], host: host}
	c, err := link.Open(nil)
	require.NoError(t, err)
	defer c.Close()
	before, err := c.ByParent(v.Address)
	require.NoError(t, err)
	home := func(t *testing.T) {
		l, err := c.ByParent(v.Address)
		require.NoError(t, err)
		assert.Equal(t, []any{before.Name, before.MAC, before.MTU, before.Up()}, []any{l.Name, l.MAC, l.MTU, l.Up()})
		assert.Empty(t, stateFiles(t, v.Address.String()))
	}

	t.Run("settings of the PF are refused with the reason", func(t *testing.T) {
		add, _ := attach(t, v, newPod(t), nil)
		for name, value := range map[string]any{"vlan": 100, "trust": "on", "spoofchk": "off", "max_tx_rate": 100} {
			add.with(map[string]any{name: value}).fails(t, 100, "its PF's driver (virtio-pci) knows no settings of VFs")
			home(t)
		}
	})
	t.Run("MAC, MTU, traffic, CHECK", func(t *testing.T) {
		a, b := newPod(t), newPod(t)
		add, del := attach(t, v, a, asRendered(map[string]any{"mac": "ca:fe:c0:ff:ee:41", "mtu": 1400, "ipam": hostLocal("192.0.2.0/24")}))
		got := add.ok(t)
		assert.Equal(t, "ca:fe:c0:ff:ee:41", got.Interfaces[0].Mac)
		l, err := a.ByName("net1")
		require.NoError(t, err)
		assert.Equal(t, 1400, l.MTU)
		add.as("CHECK").with(map[string]any{"prevResult": prevResult(t, got)}).ok(t)
		addOther, _ := attach(t, other, b, asRendered(map[string]any{"ipam": hostLocal("192.0.2.0/24")}))
		addOther.ok(t)
		address, _, _ := strings.Cut(got.IPs[0].Address, "/")
		assert.True(t, ping(b, address, "10"), "no answer from %s", address)
		del.ok(t)
		home(t)
	})
	t.Run("DEL after the namespace is gone", func(t *testing.T) {
		pod := newPod(t)
		add, del := attach(t, v, pod, asRendered(map[string]any{"mac": "ca:fe:c0:ff:ee:42"}))
		add.ok(t)
		pod.end(t)
		waitFor(t, "", before.Index, func(link.Link) bool { return true })
		del.ok(t)
		home(t)
	})
	t.Run("DEL without a namespace to name", func(t *testing.T) {
		add, del := attach(t, v, newPod(t), asRendered(nil))
		add.ok(t)
		del.netns = new("")
		del.ok(t)
		home(t)
	})
	t.Run("state files are lost", func(t *testing.T) {
		marker := filepath.Join(stateDir, "pci", v.Address.String())
		for name, lost := range map[string]func(pod podNS) []string{
			"journal":            func(podNS) []string { return []string{journalPath(v)} },
			"journal and marker": func(podNS) []string { return []string{journalPath(v), marker} },
			"all": func(pod podNS) []string {
				return []string{journalPath(v), marker, filepath.Join(stateDir, pod.id+"-net1")}
			},
		} {
			t.Run(name, func(t *testing.T) {
				pod := newPod(t)
				add, del := attach(t, v, pod, asRendered(nil))
				add.ok(t)
				for _, path := range lost(pod) {
					require.NoError(t, os.Remove(path))
				}
				del.ok(t)
				l, err := c.ByParent(v.Address)
				require.NoError(t, err)
				if name == "all" { // nothing tells its name
					require.NoError(t, c.Set(l.Index, link.Update{Name: before.Name}))
				}
				require.NoError(t, c.Set(l.Index, link.Update{Up: new(before.Up())})) // no record tells
				home(t)
			})
		}
	})
	t.Run("an interface that was renamed in the pod", func(t *testing.T) {
		pod := newPod(t)
		add, del := attach(t, v, pod, asRendered(nil))
		add.ok(t)
		pod.ip(t, "link", "set", "net1", "down")
		pod.ip(t, "link", "set", "net1", "name", "other")
		del.ok(t)
		home(t)
	})
}
