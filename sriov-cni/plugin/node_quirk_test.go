// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"maps"
	"testing"
	"time"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest/quirk"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// settled compares the VF with a picture once it is done with resets, and its driver
// with what they left.
func (v vf) settled(t *testing.T, want picture) {
	t.Helper()
	quirk.Settled(t)
	assert.EventuallyWithT(t, func(c *assert.CollectT) {
		conn, err := link.Open(nil)
		require.NoError(c, err)
		defer conn.Close()
		pf, err := conn.ByParent(v.PF)
		require.NoError(c, err)
		s, err := conn.VFState(pf.Index, v.Index)
		require.NoError(c, err)
		assert.Equal(c, want.Admin, s)
		l, err := conn.ByParent(v.Address)
		require.NoError(c, err)
		assert.Equal(c, want.Link.MAC, l.MAC.String())
	}, 10*time.Second, 50*time.Millisecond)
	v.is(t, want)
}

// An ADD with a MAC and all else that a NIC may answer with a reset, and each way
// in which its DEL comes: on igb as it is, and as the NICs that the suite runs on.
func TestNodeQuirkAddDel(t *testing.T) {
	inBothStates(t, 0, 5, quirkAddDel)
}

func quirkAddDel(t *testing.T, v vf) {
	before := v.picture(t)
	for name, tc := range map[string]struct {
		conf   map[string]any
		happen func(t *testing.T, pod podNS)
	}{
		"mac":                {conf: map[string]any{"mac": "ca:fe:c0:ff:ee:61"}},
		"mac, vlan, trust":   {conf: map[string]any{"mac": "ca:fe:c0:ff:ee:62", "vlan": 100, "trust": "on", "spoofchk": "off"}},
		"vlan 0, no mac":     {conf: map[string]any{"vlan": 0}},
		"namespace is ended": {conf: map[string]any{"mac": "ca:fe:c0:ff:ee:63", "vlan": 100, "trust": "on"}, happen: func(t *testing.T, pod podNS) { pod.end(t) }},
		"pod changes its MAC": {conf: map[string]any{"trust": "on"}, happen: func(t *testing.T, pod podNS) {
			assert.Eventually(t, func() bool { return pod.Set(mustIndex(t, pod), link.Update{MAC: mustMAC("02:00:00:00:00:98")}) == nil }, patience, 50*time.Millisecond)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(t)
			add, del := attach(t, v, pod, tc.conf)
			start := time.Now()
			a := add.ok(t)
			t.Logf("ADD took %s", time.Since(start))
			if mac, ok := tc.conf["mac"].(string); ok {
				assert.Equal(t, mac, a.Interfaces[0].Mac)
				l, err := pod.ByName("net1")
				require.NoError(t, err)
				assert.Equal(t, mac, l.MAC.String())
				assert.True(t, l.Up())
			}
			if tc.happen != nil {
				tc.happen(t, pod)
			}
			start = time.Now()
			del.ok(t)
			t.Logf("DEL took %s", time.Since(start))
			v.settled(t, before)
		})
	}
}

func mustIndex(t *testing.T, pod podNS) int {
	t.Helper()
	l, err := pod.ByName("net1")
	require.NoError(t, err)
	return l.Index
}

// resets are NICs whose VFs reset when their PFs set something.
var resets = map[string]quirk.Settings{
	"100 ms, EAGAIN": {"vf_reset_ms": "100", "pf_reset_ms": "100", "pf_busy_errno": "11"},
	"1.2 s, EBUSY":   {"vf_reset_ms": "1200", "pf_reset_ms": "1200", "pf_busy_errno": "16"},
	"not reported":   {"vf_reset_ms": "300", "pf_reset_ms": "600", "pf_busy_errno": "11", "pf_report_errno": "2"},
}

// resetting is the settings of one of resets.
func resetting(s quirk.Settings) quirk.Settings {
	all := quirk.Settings{"pf_resets": "mac,vlan,trust", "vf_busy_errno": "16", "vf_mac_errno": "13", "pf_push_ms": "0", "pf_wait_ms": "0", "pf_report_wait_ms": "0"}
	maps.Copy(all, s)
	return all
}

// Resets of different lengths, and PFs that do not wait for them at all.
func TestNodeQuirkResets(t *testing.T) { onNICs(t, 0, 5, quirkResets) }

func quirkResets(t *testing.T, v vf) {
	for name, s := range resets {
		t.Run(name, func(t *testing.T) {
			before := v.picture(t)
			quirk.Set(t, resetting(s))
			quirk.Set(t, quirk.Settings{"only": v.Address.String()})
			add, del := attach(t, v, newPod(t), map[string]any{"mac": "ca:fe:c0:ff:ee:64", "vlan": 100, "trust": "on"})
			a := add.ok(t)
			assert.Equal(t, "ca:fe:c0:ff:ee:64", a.Interfaces[0].Mac)
			del.ok(t)
			v.settled(t, before)
		})
	}
}

// ADD is killed when the PF has set the pod's MAC, which the VF's driver takes over
// while DEL already waits for the PF to take its own: the interface that DEL leaves
// shows that one.
func TestNodeQuirkMACTakenLate(t *testing.T) {
	v := needVF(t, 0, 5)
	v.setAdminMAC(t, "02:00:00:00:30:05")
	before := v.picture(t)
	quirk.Set(t, quirk.Settings{
		"pf_resets": "mac", "pf_reset_ms": "6000", "pf_push_ms": "4000", "vf_reset_ms": "0", "vf_busy_errno": "0", "vf_mac_errno": "22", "vf_mac_refuse_same": "1",
		"pf_report_errno": "0", "pf_wait_ms": "0", "pf_busy_errno": "11",
	})
	const mac = "ca:fe:c0:ff:ee:65"
	add, del := attach(t, v, newPod(t), map[string]any{"mac": mac, "vlan": 100}) // the VLAN has to wait
	cmd := add.cmd()
	require.NoError(t, cmd.Start())
	c, pf := pfOf(t, v)
	assert.EventuallyWithT(t, func(ct *assert.CollectT) {
		s, err := c.VFState(pf, v.Index)
		require.NoError(ct, err)
		assert.Equal(ct, mac, s.MAC.String())
	}, patience, 5*time.Millisecond)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	quirk.Set(t, quirk.Settings{"pf_wait_ms": "20000"})
	del.ok(t)
	v.is(t, before)
	v.settled(t, before)
}

// resetForLong has the VF reset, and its PF leave it out of its report, until the test
// ends: longer than any call waits on however slow a node.
func (v vf) resetForLong(t *testing.T) {
	t.Helper()
	c, pf := pfOf(t, v)
	trust := func(s vfstate.Switch) {
		require.EventuallyWithT(t, func(ct *assert.CollectT) { // an earlier reset may not be over
			require.NoError(ct, c.SetVF(pf, v.Index, vfstate.State{Trust: s}))
		}, patience, 20*time.Millisecond)
	}
	quirk.Set(t, quirk.Settings{
		"only": v.Address.String(), "pf_resets": "trust", "pf_reset_ms": "600000", "vf_reset_ms": "0",
		"pf_report_errno": "2", "pf_busy_errno": "11", "pf_wait_ms": "0", "pf_report_wait_ms": "0",
	})
	trust(vfstate.On)
	t.Cleanup(func() { // a reset of no length replaces it, which a PF without an error for it takes
		quirk.Set(t, quirk.Settings{"pf_reset_ms": "0", "pf_busy_errno": "0"})
		trust(vfstate.On) // the test may have taken it back, and the same again is no reset
		trust(vfstate.Off)
		quirk.Settled(t)
	})
}

// A VF that its PF leaves out of its report is not one without settings.
func TestNodeQuirkNotReported(t *testing.T) { onNICs(t, 0, 5, quirkNotReported) }

func quirkNotReported(t *testing.T, v vf) {
	v.unchanged(t)
	c, pf := pfOf(t, v)
	vlan := func(id uint16) {
		require.EventuallyWithT(t, func(ct *assert.CollectT) {
			require.NoError(ct, c.SetVF(pf, v.Index, vfstate.State{VLAN: &vfstate.VLAN{ID: id}}))
		}, patience, 20*time.Millisecond)
	}
	vlan(7)
	t.Cleanup(func() { vlan(0) })
	v.resetForLong(t)
	add := call{command: "ADD", pod: newPod(t), conf: map[string]any{"deviceID": v.Address.String(), "vlan": 0}}
	a := add.fails(t, 11, "failed to get VF information")
	assert.Contains(t, a.Details, "resets")
}
