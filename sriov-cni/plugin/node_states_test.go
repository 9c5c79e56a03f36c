// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest/quirk"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// inBothStates runs a test on a VF as its driver made it, and with a MAC that an
// administrator set through the PF, as operators do.
func inBothStates(t *testing.T, pf, index int, test func(t *testing.T, v vf)) {
	t.Helper()
	sriovtest.NeedNode(t)
	t.Run("as the driver made it", func(t *testing.T) { test(t, needVF(t, pf, index)) })
	t.Run("with an administrative MAC", func(t *testing.T) {
		v := needVF(t, pf, index)
		v.setAdminMAC(t, fmt.Sprintf("02:00:00:00:%02x:%02x", 0x10+pf, index))
		test(t, v)
	})
}

// onNICs runs a test as inBothStates does, but on the profile of another NIC in the state
// alone in which operators leave its VFs: resets take long.
func onNICs(t *testing.T, pf, index int, test func(t *testing.T, v vf)) {
	t.Helper()
	if quirk.Current() == quirk.Plain {
		inBothStates(t, pf, index, test)
		return
	}
	v := needVF(t, pf, index)
	v.setAdminMAC(t, fmt.Sprintf("02:00:00:00:%02x:%02x", 0x10+pf, index))
	test(t, v)
}

// setNumVFs makes VFs and opens each once: before Linux 6.12 igb hears of the address that a VF
// has chosen only then.
func setNumVFs(ctx context.Context, host *libsriov.Host, pf libsriov.Address, n int) error {
	c, err := link.Open(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := host.SetNumVFs(ctx, pf, n); err != nil {
		return err
	}
	made, err := host.PF(pf)
	for _, v := range made.VFs {
		if l, err := c.ByParent(v.Address); err == nil {
			_ = c.Set(l.Index, link.Update{Up: new(true)})
			_ = c.Set(l.Index, link.Update{Up: new(false)})
		}
	}
	return err
}

// setAdminMAC has the PF set the VF's MAC for the time of the test.
func (v vf) setAdminMAC(t *testing.T, mac string) {
	t.Helper()
	set := func(ctx context.Context, mac string) {
		c, err := link.Open(nil)
		require.NoError(t, err)
		defer c.Close()
		pf, err := c.ByParent(v.PF)
		require.NoError(t, err)
		before, err := c.ByParent(v.Address)
		require.NoError(t, err)
		require.EventuallyWithT(t, func(ct *assert.CollectT) { // the VF may reset
			err := c.SetVF(pf.Index, v.Index, vfstate.State{MAC: mustMAC(mac)})
			if mac == noMAC && errors.Is(err, unix.EINVAL) {
				err = nil // qede keeps what it was told once
			}
			require.NoError(ct, err)
		}, patience, 20*time.Millisecond)
		require.NoError(t, v.host.Unbind(ctx, v.Address)) // igbvf asks its PF when it is loaded
		require.NoError(t, v.host.ResetDriver(ctx, v.Address))
		after, err := c.ByParent(v.Address)
		require.NoError(t, err)
		if after.Name != before.Name {
			require.NoError(t, c.Set(after.Index, link.Update{Name: before.Name}))
		}
		quirk.Settled(t)
	}
	set(t.Context(), mac)
	t.Cleanup(func() { set(context.WithoutCancel(t.Context()), noMAC) })
}

const noMAC = "00:00:00:00:00:00"

// The namespace of a pod with a MAC of its own ends, and the VF comes home closed
// with the pod's MAC; what the PF sets is not what such an interface lets one set.
func TestNodeNamespaceEnded(t *testing.T) {
	inBothStates(t, 0, 0, func(t *testing.T, v vf) {
		v.unchanged(t)
		before := v.picture(t)
		for range 2 { // the next pod's ADD, too
			pod := newPod(t)
			add, del := attach(t, v, pod, map[string]any{"mac": "ca:fe:c0:ff:ee:51", "trust": "on"})
			a := add.ok(t)
			assert.Equal(t, "ca:fe:c0:ff:ee:51", a.Interfaces[0].Mac)
			l, err := pod.ByName("net1")
			require.NoError(t, err)
			assert.Equal(t, "ca:fe:c0:ff:ee:51", l.MAC.String())
			assert.Equal(t, mustMAC("ca:fe:c0:ff:ee:51"), v.picture(t).Admin.MAC)
			pod.end(t)
			del.ok(t)
			v.is(t, before)
		}
	})
}

// An administrator set the VF's MAC and its driver was not started again, so the
// interface showed another, which the PF does not let it have again: DEL does not
// wait for that.
func TestNodeMACChangedOnThePF(t *testing.T) {
	v := needVF(t, 0, 0)
	v.setAdminMAC(t, "02:00:00:00:20:01")
	c, pf := pfOf(t, v)
	require.NoError(t, c.SetVF(pf, v.Index, vfstate.State{MAC: mustMAC("02:00:00:00:20:02")}))
	before := v.picture(t)
	require.Equal(t, "02:00:00:00:20:01", before.Link.MAC)
	pod := newPod(t)
	add, del := attach(t, v, pod, map[string]any{"mac": "ca:fe:c0:ff:ee:53", "trust": "on"})
	add.ok(t)
	pod.end(t)
	a := del.ok(t)
	assert.NotContains(t, a.stderr, "waiting for a VF that resets")
	assert.Contains(t, a.stderr, "does not get back its MAC")
	before.Link.MAC = "02:00:00:00:20:02"
	v.is(t, before)

	// Where the interface was up, the move restarts it: a pod that asks for no MAC has the PF's.
	require.NoError(t, c.Set(before.Link.Index, link.Update{Up: new(true)}))
	require.NoError(t, c.SetVF(pf, v.Index, vfstate.State{MAC: mustMAC("02:00:00:00:20:03")}))
	pod = newPod(t)
	add, _ = attach(t, v, pod, nil)
	added := add.ok(t)
	l, err := pod.ByName("net1")
	require.NoError(t, err)
	assert.Equal(t, l.MAC.String(), added.Interfaces[0].Mac)
	assert.Equal(t, "02:00:00:00:20:03", added.Interfaces[0].Mac)
	add.as("CHECK").with(map[string]any{"prevResult": prevResult(t, added)}).ok(t)
}

// Each state file is whole, empty, cut off, garbage, another's, senseless or gone: DEL leaves
// nothing of the pod's on the VF, and all as it was where one file tells. Any two files meet
// in all of these; all three do with SRIOVKIT_KILL. Of the mixes every other is tried on the
// VF as its driver made it, the rest on one with an administrative MAC.
func TestNodeDamagedState(t *testing.T) {
	first := 0
	inBothStates(t, 0, 0, func(t *testing.T, v vf) {
		damagedState(t, v, first)
		first++
	})
}

// damagedState tries every other mix, from the one whose number is first.
func damagedState(t *testing.T, v vf, first int) {
	v.unchanged(t)
	before := v.picture(t)
	damage := map[string]func(path string) error{
		"whole":   func(string) error { return nil },
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"cut":     func(path string) error { return os.Truncate(path, 7) },
		"garbage": func(path string) error { return os.WriteFile(path, []byte("\x00\xff{]"), 0o600) },
		"gone":    os.Remove,
	}
	ofFiles := maps.Clone(damage)
	ofFiles["another's"] = func(path string) error { // whole, and of another VF
		b, err := os.ReadFile(path)
		return errors.Join(err, os.WriteFile(path, bytes.ReplaceAll(b, []byte(v.Address.String()), []byte("0000:ff:1f.7")), 0o600))
	}
	ofFiles["senseless"] = func(path string) error {
		b, err := os.ReadFile(path)
		return errors.Join(err, os.WriteFile(path, bytes.ReplaceAll(b, []byte(before.Link.Name), []byte(strings.Repeat("x", 40))), 0o600))
	}
	mix := first
	for j, journal := range slices.Sorted(maps.Keys(ofFiles)) {
		for r, record := range slices.Sorted(maps.Keys(ofFiles)) {
			for m, marker := range slices.Sorted(maps.Keys(damage)) {
				if killStep == 0 && m != (j+r)%len(damage) {
					continue
				}
				if mix++; mix%2 == 0 {
					continue
				}
				t.Run(fmt.Sprintf("journal %s, record %s, marker %s", journal, record, marker), func(t *testing.T) {
					pod := newPod(t)
					add, del := attach(t, v, pod, map[string]any{"vlan": 100, "trust": "on", "spoofchk": "off"})
					add.ok(t)
					require.NoError(t, ofFiles[journal](journalPath(v)))
					require.NoError(t, ofFiles[record](filepath.Join(stateDir, pod.id+"-net1")))
					require.NoError(t, damage[marker](filepath.Join(stateDir, "pci", v.Address.String())))
					del.ok(t)
					after := v.picture(t)
					require.NotNil(t, after.Link, "the VF is still in the pod")
					if journal != "whole" && record != "whole" { // nothing tells its name, and whether it was up
						c, _ := pfOf(t, v)
						require.NoError(t, c.Set(after.Link.Index, link.Update{Up: new(false)}))
						require.NoError(t, c.Set(after.Link.Index, link.Update{Name: before.Link.Name}))
					}
					if journal != "whole" {
						c, _ := pfOf(t, v)
						require.NoError(t, c.Set(after.Link.Index, link.Update{Up: new(before.Link.Flags&1 != 0)}))
					}
					v.is(t, before)
					del.ok(t)
				})
			}
		}
	}
}

// All state files of a pod that is gone are damaged: the next pod does not inherit what
// its PF let it do.
func TestNodeNextAddAfterDamage(t *testing.T) { inBothStates(t, 0, 0, nextAddAfterDamage) }

func nextAddAfterDamage(t *testing.T, v vf) {
	v.unchanged(t)
	before := v.picture(t)
	pod := newPod(t)
	add, _ := attach(t, v, pod, map[string]any{"vlan": 100, "trust": "on", "spoofchk": "off"})
	add.ok(t)
	record := filepath.Join(stateDir, pod.id+"-net1")
	for _, path := range []string{journalPath(v), record, filepath.Join(stateDir, "pci", v.Address.String())} {
		require.NoError(t, os.WriteFile(path, []byte("\x00\xff{]"), 0o600))
	}
	index := mustIndex(t, pod)
	pod.end(t)
	waitFor(t, "", index, func(l link.Link) bool { return l.Parent == v.Address.String() })
	next, nextDel := attach(t, v, newPod(t), nil)
	a := next.ok(t)
	assert.Contains(t, a.stderr, "it becomes what is safe")
	assert.Equal(t, before.Admin, v.picture(t).Admin)
	nextDel.ok(t)
	require.NoError(t, os.Remove(record)) // nothing tells whose it is
	c, _ := pfOf(t, v)
	l, err := c.ByParent(v.Address)
	require.NoError(t, err)
	require.NoError(t, c.Set(l.Index, link.Update{Up: new(false)}))
	require.NoError(t, c.Set(l.Index, link.Update{Name: before.Link.Name}))
	require.NoError(t, c.Set(l.Index, link.Update{Up: new(before.Link.Flags&1 != 0)}))
}

func TestNodeLongContainerID(t *testing.T) { inBothStates(t, 0, 0, longContainerID) }

func longContainerID(t *testing.T, v vf) {
	v.unchanged(t)
	pod := newPod(t)
	for len(pod.id) < 300 {
		pod.id += pod.id
	}
	add, del := attach(t, v, pod, nil)
	del.ok(t) // of what was never added
	add.ok(t)
	del.ok(t)
}

// The VF's record is of a boot before this one: what it says of the VF is not
// written to this boot's.
func TestNodeRecordOfAnotherBoot(t *testing.T) { inBothStates(t, 0, 0, recordOfAnotherBoot) }

func recordOfAnotherBoot(t *testing.T, v vf) {
	v.unchanged(t)
	pod := newPod(t)
	_, del := attach(t, v, pod, nil)
	record := `{"cniVersion":"1.0.0","name":"net-a","type":"sriov","deviceID":"` + v.Address.String() + `","vlan":5,"VFID":0,
		"sriovkit":{"version":1,"owner":{"containerID":"` + pod.id + `","ifname":"net1"},"identity":{"boot":"another","inode":1}},
		"OrigVfState":{"HostIFName":"stale","AdminMAC":"02:00:00:00:00:77","EffectiveMAC":"02:00:00:00:00:77","Vlan":9,"MTU":1300}}`
	require.NoError(t, os.MkdirAll(filepath.Join(stateDir, "pci"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(stateDir, pod.id+"-net1"), []byte(record), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(stateDir, "pci", v.Address.String()), []byte(pod.path), 0o600))
	del.ok(t)
}
