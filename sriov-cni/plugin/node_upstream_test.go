// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	hostvf "github.com/sriovkit/sriovkit/sriov-cni/vf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A pod that lost its DEL to an upgrade from the other plugin: only its files
// are there, and the VF as it left it.
func TestNodeTakesOverFromUpstream(t *testing.T) { inBothStates(t, 0, 0, takesOverFromUpstream) }

func takesOverFromUpstream(t *testing.T, v vf) {
	v.unchanged(t)
	before := v.picture(t)
	c, pf := pfOf(t, v)
	for name, tc := range map[string]struct {
		happen func(t *testing.T, pod podNS)
		next   func(t *testing.T, del call)
	}{
		"DEL":                  {next: func(t *testing.T, del call) { del.ok(t) }},
		"DEL, path not given":  {next: func(t *testing.T, del call) { del.netns = new(""); del.ok(t) }},
		"DEL, namespace ended": {happen: func(t *testing.T, pod podNS) { pod.end(t) }, next: func(t *testing.T, del call) { del.ok(t) }},
		"record truncated": {
			happen: func(t *testing.T, pod podNS) {
				// How the VF was is lost with the record; leave nothing but its place to restore.
				require.NoError(t, os.Truncate(filepath.Join(stateDir, pod.id+"-net1"), 10))
				pod.ip(t, "link", "set", "net1", "down")
				pod.ip(t, "link", "set", "net1", "address", before.Link.MAC)
				require.NoError(t, c.SetVF(pf, v.Index, vfstate.Diff(v.picture(t).Admin, before.Admin)))
			},
			next: func(t *testing.T, del call) {
				del.ok(t)
				ip(t, "link", "set", v.picture(t).Link.Name, "name", before.Link.Name)
			},
		},
		"DEL, journal of an earlier pod that the other took back": {
			happen: func(t *testing.T, _ podNS) {
				require.NoError(t, os.WriteFile(journalPath(v), []byte(`{"version":1,"owner":{"containerID":"x","ifname":"net1"},"device":"`+v.Address.String()+`","netns":{"path":"/run/netns/x"}}`), 0o600))
			},
			next: func(t *testing.T, del call) { del.ok(t) },
		},
		"GC": {next: func(t *testing.T, del call) { del.as("GC").with(noneValid).ok(t) }},
		"DEL, after a reboot": {
			happen: func(t *testing.T, pod podNS) { reboot(t, v, pod, before) },
			next:   func(t *testing.T, del call) { del.ok(t) },
		},
		"next ADD, after a reboot": {
			happen: func(t *testing.T, pod podNS) { reboot(t, v, pod, before) },
			next: func(t *testing.T, _ call) {
				add, delNext := attach(t, v, newPod(t), nil)
				add.ok(t)
				delNext.ok(t)
			},
		},
		"next ADD, then late DEL": {
			happen: func(t *testing.T, pod podNS) { pod.end(t) },
			next: func(t *testing.T, del call) {
				add, delNext := attach(t, v, newPod(t), nil)
				add.ok(t)
				with := v.picture(t)
				del.ok(t)
				v.is(t, with)
				delNext.ok(t)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(t)
			_, del := attach(t, v, pod, nil)
			addLikeUpstream(t, v, pod)
			in, _ := attach(t, v, newPod(t), nil)
			in.fails(t, 11, "is already allocated")
			if tc.happen != nil {
				tc.happen(t, pod)
			}
			tc.next(t, del)
			after := v.picture(t)
			require.NotNil(t, after.Link, "VF was not taken back")
			// Such a record does not say whether the interface was up.
			after.Link.Flags = before.Link.Flags
			assert.Equal(t, before, after)
			if l, err := c.ByName(before.Link.Name); assert.NoError(t, err) && before.Link.Flags != l.Flags&settableFlags {
				require.NoError(t, c.Set(l.Index, link.Update{Up: new(before.Link.Flags&1 != 0)}))
			}
		})
	}
}

// reboot leaves a VF as its driver makes it and the record of a pod as it was, whose
// namespace ends with the boot.
func reboot(t *testing.T, v vf, pod podNS, before picture) {
	t.Helper()
	record := filepath.Join(stateDir, pod.id+"-net1")
	b, err := os.ReadFile(record)
	require.NoError(t, err)
	var fields map[string]any
	require.NoError(t, json.Unmarshal(b, &fields))
	fields["OrigVfState"] = map[string]any{"HostIFName": "stale", "AdminMAC": "02:00:00:00:00:77", "EffectiveMAC": "02:00:00:00:00:77", "Vlan": 9, "MTU": 1300}
	b, err = json.Marshal(fields)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(record, b, 0o600))
	require.NoError(t, os.Chtimes(record, time.Time{}, time.Unix(1e9, 0)))

	c, pf := pfOf(t, v)
	index := mustIndex(t, pod)
	pod.end(t)
	waitFor(t, "", index, func(l link.Link) bool { return l.Parent == v.Address.String() })
	l, err := c.ByParent(v.Address)
	require.NoError(t, err)
	require.NoError(t, c.SetVF(pf, v.Index, vfstate.Diff(v.picture(t).Admin, before.Admin)))
	require.NoError(t, hostvf.SettleMAC(t.Context(), c, nil, l, mustMAC(before.Link.MAC)))
	require.NoError(t, c.Set(l.Index, link.Update{Name: before.Link.Name}))
}

// addLikeUpstream leaves a VF and the state directory as an ADD of the plugin
// that this one replaces does; testdata/upstream-record.json is one of its
// files, with the parts that differ per VF filled in.
func addLikeUpstream(t *testing.T, v vf, pod podNS) {
	t.Helper()
	before := v.picture(t)
	b, err := os.ReadFile("testdata/upstream-record.json")
	require.NoError(t, err)
	var record map[string]any
	require.NoError(t, json.Unmarshal(b, &record))
	orig := record["OrigVfState"].(map[string]any)
	record["deviceID"], record["VFID"] = v.Address.String(), v.Index
	orig["HostIFName"], orig["EffectiveMAC"], orig["AdminMAC"] = before.Link.Name, before.Link.MAC, before.Admin.MAC.String()
	orig["Vlan"] = before.Admin.VLAN.ID
	b, err = json.Marshal(record)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(stateDir, "pci"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(stateDir, pod.id+"-net1"), b, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(stateDir, "pci", v.Address.String()), []byte(pod.path), 0o600))

	c, pf := pfOf(t, v)
	l, err := c.ByParent(v.Address)
	require.NoError(t, err)
	mac := mustMAC("ca:fe:c0:ff:ee:01")
	_ = c.Set(l.Index, link.Update{MAC: mac}) // igb refuses it where the PF has set one, and else once it has
	require.NoError(t, c.SetVF(pf, v.Index, vfstate.State{
		MAC: mac, VLAN: &vfstate.VLAN{ID: 100, QoS: 2}, Trust: vfstate.On, SpoofCheck: vfstate.Off,
	}))
	require.NoError(t, hostvf.SettleMAC(t.Context(), c, nil, l, mac))
	ip(t, "link", "set", l.Name, "netns", filepath.Base(pod.path), "name", "net1")
	pod.ip(t, "link", "set", "net1", "up")
}

// The other plugin took the VF back from a pod that this one gave it to, and
// left the journal, which it does not know. Since then an administrator chose
// another VLAN: that is how the VF is to be.
func TestNodeJournalAfterUpstreamDel(t *testing.T) { inBothStates(t, 0, 0, journalAfterUpstreamDel) }

func journalAfterUpstreamDel(t *testing.T, v vf) {
	v.unchanged(t)
	before := v.picture(t)
	c, pf := pfOf(t, v)
	for name, next := range map[string]func(t *testing.T, pod podNS, del call){
		"next ADD": func(t *testing.T, _ podNS, _ call) {
			add, del := attach(t, v, newPod(t), map[string]any{"trust": "on"})
			add.ok(t)
			assert.EqualValues(t, 7, v.picture(t).Admin.VLAN.ID)
			del.ok(t)
		},
		"DEL": func(t *testing.T, _ podNS, del call) { del.ok(t) },
		"GC":  func(t *testing.T, _ podNS, del call) { del.as("GC").with(noneValid).ok(t) },
		"ADD by the other for the same pod, DEL": func(t *testing.T, pod podNS, del call) {
			up := v.picture(t).Link.Flags
			addLikeUpstream(t, v, pod)
			del.ok(t)
			if l, err := c.ByParent(v.Address); assert.NoError(t, err) { // such a record does not say whether it was up
				require.NoError(t, c.Set(l.Index, link.Update{Up: new(up&1 != 0)}))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(t)
			add, del := attach(t, v, pod, map[string]any{"vlan": 100, "trust": "on"})
			add.ok(t)

			delLikeUpstream(t, v, pod, before)
			require.FileExists(t, journalPath(v))

			require.NoError(t, c.SetVF(pf, v.Index, vfstate.State{VLAN: &vfstate.VLAN{ID: 7}}))
			t.Cleanup(func() { require.NoError(t, c.SetVF(pf, v.Index, vfstate.State{VLAN: &vfstate.VLAN{}})) })
			chosen := v.picture(t)
			chosen.StateDir = nil
			next(t, pod, del)
			v.is(t, chosen)
		})
	}
}

// delLikeUpstream undoes an ADD as the other plugin does, and removes the files
// that it knows.
func delLikeUpstream(t *testing.T, v vf, pod podNS, before picture) {
	t.Helper()
	c, pf := pfOf(t, v)
	l, err := pod.ByName("net1")
	require.NoError(t, err)
	require.NoError(t, c.SetVF(pf, v.Index, vfstate.Diff(v.picture(t).Admin, before.Admin)))
	require.NoError(t, pod.SetUp("net1", false))
	pod.ip(t, "link", "set", "net1", "netns", "1", "name", before.Link.Name)
	require.NoError(t, c.Set(l.Index, link.Update{Up: new(before.Link.Flags&1 != 0)}))
	require.NoError(t, os.Remove(filepath.Join(stateDir, "pci", v.Address.String())))
	require.NoError(t, os.Remove(filepath.Join(stateDir, pod.id+"-net1")))
}
