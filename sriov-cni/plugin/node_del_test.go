// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// everything is a configuration that changes all that igb lets one change.
func everything() map[string]any {
	return map[string]any{
		"vlan": 100, "vlanQoS": 2, "mac": "ca:fe:c0:ff:ee:07", "trust": "on", "spoofchk": "off", "mtu": 1400, "max_tx_rate": 300,
	}
}

// Whatever happened to the pod before its DEL, the VF is then as it was before ADD.
func TestNodeDelRestores(t *testing.T) { inBothStates(t, 0, 0, delRestores) }

func delRestores(t *testing.T, v vf) {
	v.unchanged(t)
	empty, none, file := "", "/run/netns/none", "/etc/hostname"
	for name, tc := range map[string]struct {
		conf   map[string]any
		happen func(t *testing.T, pod podNS)
		netns  *string // of DEL
	}{
		"nothing":   {},
		"all of it": {conf: everything()},
		"pod changed what it could": {
			conf: map[string]any{"trust": "on"},
			happen: func(t *testing.T, pod podNS) {
				pod.ip(t, "link", "set", "net1", "down")
				pod.ip(t, "link", "set", "net1", "name", "foo", "address", "02:00:00:00:00:99", "mtu", "1300", "promisc", "on", "allmulticast", "on")
				pod.ip(t, "link", "property", "add", "dev", "foo", "altname", "net1")
				pod.ip(t, "link", "add", "net2", "type", "dummy")
			},
		},
		"set down by the pod":             {conf: everything(), happen: func(t *testing.T, pod podNS) { pod.ip(t, "link", "set", "net1", "down") }},
		"namespace ended, path not given": {conf: everything(), netns: &empty, happen: func(t *testing.T, pod podNS) { pod.end(t) }},
		"namespace ended":                 {conf: everything(), happen: func(t *testing.T, pod podNS) { pod.end(t) }},
		"namespace lives, path not given": {conf: everything(), netns: &empty},
		"another path":                    {conf: everything(), netns: &none},
		"a file for a path":               {conf: everything(), netns: &file},
		"record lost": {conf: everything(), happen: func(t *testing.T, pod podNS) {
			require.NoError(t, os.Remove(filepath.Join(stateDir, pod.id+"-net1")))
		}},
		"record truncated": {conf: everything(), happen: func(t *testing.T, pod podNS) {
			require.NoError(t, os.Truncate(filepath.Join(stateDir, pod.id+"-net1"), 20))
		}},
		"journal truncated": {conf: everything(), happen: func(t *testing.T, _ podNS) {
			require.NoError(t, os.Truncate(journalPath(v), 20))
		}},
		"journal emptied, namespace ended": {conf: everything(), happen: func(t *testing.T, pod podNS) {
			require.NoError(t, os.Truncate(journalPath(v), 0))
			pod.end(t)
		}},
		"journal's boot damaged": {conf: everything(), happen: func(t *testing.T, _ podNS) {
			b, err := os.ReadFile(journalPath(v))
			require.NoError(t, err)
			require.Contains(t, string(b), `"boot":"`)
			require.NoError(t, os.WriteFile(journalPath(v), bytes.Replace(b, []byte(`"boot":"`), []byte(`"boot":"x`), 1), 0o600))
		}},
		"marker lost": {conf: everything(), happen: func(t *testing.T, _ podNS) {
			require.NoError(t, os.Remove(filepath.Join(stateDir, "pci", v.Address.String())))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			before := v.picture(t)
			pod := newPod(t)
			add, del := attach(t, v, pod, tc.conf)
			add.ok(t)
			if tc.happen != nil {
				tc.happen(t, pod)
			}
			del.netns = tc.netns
			del.ok(t)
			v.is(t, before)
			del.ok(t)
			v.is(t, before)
		})
	}
}

func journalPath(v vf) string { return filepath.Join(stateDir, "vf", v.Address.String()+".json") }

// The PF's limit is below the VF's former MTU by now, here so by an edit of the journal.
func TestNodeMTUIsNotTakenBack(t *testing.T) { inBothStates(t, 0, 0, mtuIsNotTakenBack) }

func mtuIsNotTakenBack(t *testing.T, v vf) {
	v.unchanged(t)
	add, del := attach(t, v, newPod(t), nil)
	add.ok(t)
	b, err := os.ReadFile(journalPath(v))
	require.NoError(t, err)
	require.Contains(t, string(b), `"mtu":1500,`)
	require.NoError(t, os.WriteFile(journalPath(v), bytes.Replace(b, []byte(`"mtu":1500,`), []byte(`"mtu":20000,`), 1), 0o600))
	a := del.ok(t)
	assert.Contains(t, a.stderr, "does not take back how its interface was")
}

// DEL works with a configuration that ADD would refuse.
func TestNodeDelWithBadConfiguration(t *testing.T) { inBothStates(t, 0, 0, delWithBadConfiguration) }

func delWithBadConfiguration(t *testing.T, v vf) {
	v.unchanged(t)
	add, del := attach(t, v, newPod(t), nil)
	add.ok(t)
	del.with(map[string]any{"spoofchk": "ON", "vlan": "9999", "mtu": []any{}, "trust": 7, "capabilities": "x", "deviceID": nil}).ok(t)
}

func TestNodeHostNameTaken(t *testing.T) { inBothStates(t, 0, 0, hostNameTaken) }

func hostNameTaken(t *testing.T, v vf) {
	v.unchanged(t)
	before := v.picture(t)
	take := func() { ip(t, "link", "add", before.Link.Name, "type", "dummy") }
	free := func() { ip(t, "link", "del", before.Link.Name) }

	t.Run("DEL again", func(t *testing.T) {
		add, del := attach(t, v, newPod(t), everything())
		add.ok(t)
		take()
		a := del.fails(t, 103, before.Link.Name)
		assert.Contains(t, a.Details, "rename it")
		free()
		del.ok(t)
		v.is(t, before)
	})
	t.Run("next pod, then DEL", func(t *testing.T) {
		pod := newPod(t)
		add, del := attach(t, v, pod, everything())
		add.ok(t)
		take()
		pod.end(t)
		next, delNext := attach(t, v, newPod(t), nil)
		next.ok(t)
		free()
		delNext.ok(t)
		del.ok(t)
		v.is(t, before)
	})
}

func TestNodeLateDel(t *testing.T) { inBothStates(t, 0, 0, lateDel) }

func lateDel(t *testing.T, v vf) {
	v.unchanged(t)
	old, young := newPod(t), newPod(t)
	addOld, delOld := attach(t, v, old, everything())
	addOld.ok(t)
	old.end(t)
	addYoung, delYoung := attach(t, v, young, map[string]any{"vlan": 200, "mac": "ca:fe:c0:ff:ee:08"})
	addYoung.ok(t)
	with := v.picture(t)
	assert.EqualValues(t, 200, with.Admin.VLAN.ID)
	assert.Equal(t, vfstate.Off, with.Admin.Trust, "the old pod's trust was inherited")

	delOld.ok(t)
	v.is(t, with)
	l, err := young.ByName("net1")
	require.NoError(t, err)
	assert.Equal(t, "ca:fe:c0:ff:ee:08", l.MAC.String())
	delYoung.ok(t)
}

func TestNodeUserspaceDriver(t *testing.T) { inBothStates(t, 0, 1, userspaceDriver) }

func userspaceDriver(t *testing.T, v vf) {
	require.NoError(t, v.host.BindDriver(t.Context(), v.Address, "vfio-pci"))
	t.Cleanup(func() { require.NoError(t, v.host.ResetDriver(context.WithoutCancel(t.Context()), v.Address)) })
	before := v.picture(t)
	for name, end := range map[string]bool{"pod there": false, "namespace ended": true} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(t)
			add, del := attach(t, v, pod, map[string]any{
				"vlan": 100, "mac": "ca:fe:c0:ff:ee:09", "trust": "on",
				"ipam": hostLocal("192.0.2.0/24"),
			})
			a := add.ok(t)
			assert.Equal(t, "ca:fe:c0:ff:ee:09", a.Interfaces[0].Mac)
			assert.Equal(t, 1500, a.Interfaces[0].Mtu)
			require.Len(t, a.IPs, 1)
			with := v.picture(t)
			assert.EqualValues(t, 100, with.Admin.VLAN.ID)
			assert.Equal(t, mustMAC("ca:fe:c0:ff:ee:09"), with.Admin.MAC)
			if end {
				pod.end(t)
			}
			del.ok(t)
			v.is(t, before)
		})
	}
	t.Run("an mtu is refused", func(t *testing.T) {
		add, _ := attach(t, v, newPod(t), map[string]any{"mtu": 1400})
		add.fails(t, 7, "invalid mtu")
	})
}

func TestNodeNoDriver(t *testing.T) { inBothStates(t, 0, 1, noDriver) }

func noDriver(t *testing.T, v vf) {
	require.NoError(t, v.host.Unbind(t.Context(), v.Address))
	t.Cleanup(func() { require.NoError(t, v.host.ResetDriver(context.WithoutCancel(t.Context()), v.Address)) })
	add, _ := attach(t, v, newPod(t), nil)
	add.fails(t, 100, "does not have a interface name or a dpdk driver")
	assert.Empty(t, v.picture(t).StateDir)
}

func TestNodePFDown(t *testing.T) { inBothStates(t, 1, 0, pfDown) }

func pfDown(t *testing.T, v vf) {
	v.unchanged(t)
	before := v.picture(t)
	c, pf := pfOf(t, v)
	add, del := attach(t, v, newPod(t), map[string]any{"vlan": 100, "mac": "ca:fe:c0:ff:ee:0a"})
	add.ok(t)
	require.NoError(t, c.Set(pf, link.Update{Up: new(false)}))
	t.Cleanup(func() { require.NoError(t, c.Set(pf, link.Update{Up: new(true)})) })
	first := del.try(t)
	require.NoError(t, c.Set(pf, link.Update{Up: new(true)}))
	if first.exit != 0 { // whether a VF can be talked to then is the driver's to say
		assert.NotEmpty(t, first.Msg)
		del.ok(t)
	}
	v.is(t, before)
}

func TestNodePFRenamed(t *testing.T) { inBothStates(t, 1, 0, pfRenamed) }

func pfRenamed(t *testing.T, v vf) {
	v.unchanged(t)
	c, pf := pfOf(t, v)
	l, err := c.ByIndex(pf)
	require.NoError(t, err)
	add, del := attach(t, v, newPod(t), everything())
	add.ok(t)
	require.NoError(t, c.Set(pf, link.Update{Up: new(false)}))
	require.NoError(t, c.Set(pf, link.Update{Name: "renamed"}))
	require.NoError(t, c.Set(pf, link.Update{Up: new(true)}))
	t.Cleanup(func() {
		require.NoError(t, c.Set(pf, link.Update{Up: new(false)}))
		require.NoError(t, c.Set(pf, link.Update{Name: l.Name}))
		require.NoError(t, c.Set(pf, link.Update{Up: new(true)}))
	})
	waitFor(t, "", pf, link.Link.Carrier)
	del.ok(t)
}

// The VFs are removed while the pod runs, and created again: DEL leaves the new VF alone,
// which is not the pod's.
func TestNodeVFsMadeAnew(t *testing.T) { inBothStates(t, 1, 0, vfsMadeAnew) }

func vfsMadeAnew(t *testing.T, v vf) {
	pod := newPod(t)
	add, del := attach(t, v, pod, everything())
	add.ok(t)
	require.NoError(t, v.host.SetNumVFs(t.Context(), v.PF, 0))
	t.Run("gone", func(t *testing.T) {
		other := newPod(t)
		a := call{command: "ADD", pod: other, conf: map[string]any{"deviceID": v.Address.String()}}
		a.fails(t, 100, "failed to get VF information")
	})
	require.NoError(t, setNumVFs(t.Context(), v.host, v.PF, 1))
	_, pf := pfOf(t, v)
	waitFor(t, "", pf, link.Link.Carrier)
	before := v.picture(t)
	before.StateDir = nil
	del.ok(t)
	v.is(t, before)
	again, delAgain := attach(t, v, pod, everything())
	again.ok(t)
	delAgain.ok(t)
	v.is(t, before)
}

func hostLocal(subnets ...string) map[string]any {
	var ranges []any
	for _, s := range subnets {
		ranges = append(ranges, []any{map[string]any{"subnet": s}})
	}
	return map[string]any{"type": "host-local", "ranges": ranges, "dataDir": fmt.Sprintf("/run/ipam-%d", os.Getpid())}
}
