// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest/quirk"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A pod stacks interfaces on the VF's while DEL takes it: none stays behind with the pod.
func TestNodePodStacksDuringDel(t *testing.T) { inBothStates(t, 0, 0, podStacksDuringDel) }

func podStacksDuringDel(t *testing.T, v vf) {
	v.unchanged(t)
	for i := range 3 {
		pod := newPod(t)
		add, del := attach(t, v, pod, map[string]any{"trust": "on"})
		add.ok(t)
		script := fmt.Sprintf(`i=0; while ip -n %s link add mv$i link net1 type macvlan mode bridge 2>/dev/null; do i=$((i+1)); done; echo $i`, filepath.Base(pod.path))
		var out bytes.Buffer
		hostile := exec.Command("sh", "-c", script)
		hostile.Stdout = &out
		require.NoError(t, hostile.Start())
		waitFor(t, pod.path, mustIndex(t, pod), func(link.Link) bool { _, err := pod.ByName(fmt.Sprintf("mv%d", i)); return err == nil })
		del.ok(t)
		require.NoError(t, hostile.Wait())
		t.Logf("the pod made %s", bytes.TrimSpace(out.Bytes()))
		links, err := pod.All()
		require.NoError(t, err)
		require.Len(t, links, 1, "lo alone: %+v", links)
	}
}

// A DEL that moved the VF back but could not remove what the pod had stacked on it is
// completed by the next one.
func TestNodeStackedStays(t *testing.T) { inBothStates(t, 0, 0, stackedStays) }

func stackedStays(t *testing.T, v vf) {
	v.unchanged(t)
	pod := newPod(t)
	add, del := attach(t, v, pod, nil)
	add.ok(t)
	pod.ip(t, "link", "add", "mv0", "link", "net1", "type", "macvlan")
	pod.ip(t, "link", "add", "eth0", "type", "veth", "peer", "name", "innocent")
	pod.ip(t, "link", "set", "net1", "netns", "1")
	del.ok(t)
	_, err := pod.ByName("mv0")
	require.ErrorIs(t, err, link.ErrNotFound)
	_, err = pod.ByName("eth0")
	require.NoError(t, err)
}

// While the PF resets the VF during ADD, a network manager configures the VF's interface,
// which ADD had found unused: ADD fails, and the interface stays on the host as configured.
func TestNodeHostTakesItDuringAdd(t *testing.T) { inBothStates(t, 0, 5, hostTakesItDuringAdd) }

func hostTakesItDuringAdd(t *testing.T, v vf) {
	v.unchanged(t)
	before := v.picture(t)
	quirk.Set(t, quirk.Settings{"only": v.Address.String(), "pf_resets": "mac", "pf_reset_ms": "600000", "pf_busy_errno": "11", "pf_wait_ms": "0", "pf_report_wait_ms": "0"})
	add, _ := attach(t, v, newPod(t), map[string]any{"mac": "ca:fe:c0:ff:ee:66", "vlan": 100}) // the VLAN has to wait
	cmd := add.cmd()
	var out bytes.Buffer
	cmd.Stdout = &out
	require.NoError(t, cmd.Start())
	require.EventuallyWithT(t, func(ct *assert.CollectT) {
		assert.Equal(ct, "ca:fe:c0:ff:ee:66", v.adminMAC(ct))
	}, patience, 5*time.Millisecond)
	ip(t, "address", "add", "198.51.100.9/24", "dev", before.Link.Name)
	t.Cleanup(func() { ip(t, "address", "flush", "dev", before.Link.Name) })
	quirk.Set(t, quirk.Settings{"pf_reset_ms": "0", "pf_busy_errno": "0"}) // the PF takes the VLAN
	require.Error(t, cmd.Wait())
	assert.Contains(t, out.String(), "in use by the host")
	assert.Contains(t, ip(t, "address", "show", "dev", before.Link.Name), "198.51.100.9/24")
	quirk.Settled(t)
}

func (v vf) adminMAC(t require.TestingT) string {
	c, err := link.Open(nil)
	require.NoError(t, err)
	defer c.Close()
	pf, err := c.ByParent(v.PF)
	require.NoError(t, err)
	s, err := c.VFState(pf.Index, v.Index)
	require.NoError(t, err)
	return s.MAC.String()
}

// With a PF that reports none of its VFs, ADD fails if it is asked for a setting of the PF,
// and otherwise succeeds without waiting long.
func TestNodePFFailsForItsVFs(t *testing.T) { inBothStates(t, 1, 0, pfFailsForItsVFs) }

func pfFailsForItsVFs(t *testing.T, v vf) {
	v.unchanged(t)
	before := v.picture(t)
	v.resetForLong(t)
	c, pf := pfOf(t, v)
	_, err := c.VFState(pf, v.Index)
	require.ErrorIs(t, err, link.ErrNoVFReported)
	add, del := attach(t, v, newPod(t), nil)
	add.with(map[string]any{"vlan": 100}).fails(t, 11, "reports none of its VFs")
	add.with(map[string]any{"vlan": 0}).fails(t, 11, "reports none of its VFs")
	a := add.ok(t)
	assert.Contains(t, a.stderr, "reports none of its VFs")
	del.ok(t)
	// DEL ends by what the record tells, which is that the PF had no part in it, and without one
	// as soon as the PF takes what is safe.
	damage := func(path string) { require.NoError(t, os.WriteFile(path, []byte("{"), 0o600)) }
	add.ok(t)
	damage(journalPath(v))
	del.ok(t)
	add.ok(t)
	index := mustIndex(t, add.pod)
	damage(journalPath(v))
	damage(filepath.Join(stateDir, add.pod.id+"-net1"))
	del.fails(t, 103, "error reseting VF")
	quirk.Set(t, quirk.Settings{"pf_busy_errno": "0"})
	del.ok(t)
	require.NoError(t, c.Set(index, link.Update{Name: before.Link.Name}))
}

// ADD waits for the VF's lock, and meanwhile the VFs of the PF are made anew: the pod gets
// the new one, and DEL does not take that for another's.
func TestNodeVFsMadeAnewDuringAdd(t *testing.T) { inBothStates(t, 1, 0, vfsMadeAnewDuringAdd) }

func vfsMadeAnewDuringAdd(t *testing.T, v vf) {
	lock := filepath.Join(stateDir, "pci", "vf_lock", v.Address.String()+".lock")
	require.NoError(t, os.MkdirAll(filepath.Dir(lock), 0o700))
	f, err := os.OpenFile(lock, os.O_RDWR|os.O_CREATE, 0o600)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	pod := newPod(t)
	add, del := attach(t, v, pod, map[string]any{"vlan": 100})
	cmd := add.cmd()
	require.NoError(t, cmd.Start())
	require.EventuallyWithT(t, func(ct *assert.CollectT) { // it waits
		locks, err := os.ReadFile("/proc/locks")
		require.NoError(ct, err)
		assert.Regexp(ct, fmt.Sprintf(`-> FLOCK .* %d `, cmd.Process.Pid), string(locks))
	}, patience, 5*time.Millisecond)
	require.NoError(t, v.host.SetNumVFs(t.Context(), v.PF, 0))
	require.NoError(t, setNumVFs(t.Context(), v.host, v.PF, 1))
	_, pf := pfOf(t, v)
	waitFor(t, "", pf, link.Link.Carrier)
	before := v.picture(t)
	require.NoError(t, unix.Flock(int(f.Fd()), unix.LOCK_UN))
	require.NoError(t, cmd.Wait())
	_, err = pod.ByName("net1")
	require.NoError(t, err)
	del.ok(t)
	v.is(t, before)
}
