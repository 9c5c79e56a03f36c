// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ping sends one echo request and tells whether an answer came.
func ping(pod podNS, to string, seconds string) bool {
	return exec.Command("ip", "netns", "exec", pod.path[len("/run/netns/"):], "ping", "-c", "1", "-w", seconds, to).Run() == nil
}

func TestNodePodsReachEachOther(t *testing.T) {
	sriovtest.NeedNode(t)
	for name, tc := range map[string]struct {
		pf, index    int
		vlanA, vlanB int
		reached      bool
	}{
		"two VFs of one PF":            {pf: 0, index: 1, reached: true},
		"VFs of two PFs":               {pf: 1, index: 0, reached: true},
		"one VLAN on one PF":           {pf: 0, index: 1, vlanA: 100, vlanB: 100, reached: true},
		"two VLANs on one PF, apart":   {pf: 0, index: 1, vlanA: 100, vlanB: 200},
		"two VLANs on two PFs, apart":  {pf: 1, index: 0, vlanA: 100, vlanB: 200},
		"one VLAN on two PFs":          {pf: 1, index: 0, vlanA: 100, vlanB: 100, reached: true},
		"tagged and untagged VF apart": {pf: 0, index: 1, vlanB: 200},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := needVF(t, 0, 0), needVF(t, tc.pf, tc.index)
			if tc.vlanA == tc.vlanB && tc.vlanA > 0 {
				b.setAdminMAC(t, "02:00:00:00:11:01")
			}
			a.unchanged(t)
			b.unchanged(t)
			podA, podB := newPod(t), newPod(t)
			addA, _ := attach(t, a, podA, map[string]any{"ipam": hostLocal("192.0.2.0/24", "2001:db8:1::/64"), "vlan": tc.vlanA, "mac": "ca:fe:c0:ff:ee:aa"})
			addB, _ := attach(t, b, podB, map[string]any{"ipam": hostLocal("192.0.2.0/24", "2001:db8:1::/64"), "vlan": tc.vlanB})
			addA.ok(t)
			answer := addB.ok(t)
			for _, ip := range answer.IPs {
				address, _, _ := strings.Cut(ip.Address, "/")
				if tc.reached {
					assert.True(t, ping(podA, address, "10"), "no answer from %s", address)
				} else {
					assert.False(t, ping(podA, address, "2"), "answer from %s, which is in another VLAN", address)
				}
			}
		})
	}
}

func TestNodeConcurrentAddsOfOneVF(t *testing.T) { inBothStates(t, 0, 0, concurrentAddsOfOneVF) }

func concurrentAddsOfOneVF(t *testing.T, v vf) {
	v.unchanged(t)
	const n = 4
	answers := make([]answer, n)
	var group sync.WaitGroup
	for i := range n {
		add, _ := attach(t, v, newPod(t), map[string]any{"vlan": 100 + i})
		group.Go(func() { answers[i] = add.try(t) })
	}
	group.Wait()
	won := 0
	for _, a := range answers {
		if a.exit == 0 {
			won++
			continue
		}
		assert.EqualValues(t, 11, a.Code)
		assert.Contains(t, a.Msg, "is already allocated")
	}
	assert.Equal(t, 1, won)
}

// 32 pods start at once, with VFs of the PFs that no other test uses, one with an
// administrative MAC.
func TestNodeManyAtOnce(t *testing.T) {
	sriovtest.NeedNode(t)
	host, err := libsriov.Open("/")
	require.NoError(t, err)
	snapshot, err := host.Snapshot()
	require.NoError(t, err)
	c, err := link.Open(nil)
	require.NoError(t, err)
	defer c.Close()
	var vfs []vf
	for _, pf := range snapshot.PFs[2:] {
		l, err := c.ByParent(pf.Address)
		require.NoError(t, err)
		require.NoError(t, c.Set(l.Index, link.Update{Up: new(true)}))
		require.NoError(t, setNumVFs(t.Context(), host, pf.Address, numVFs))
		pf, err := host.PF(pf.Address)
		require.NoError(t, err)
		for _, one := range pf.VFs {
			vfs = append(vfs, vf{VF: one, host: host})
		}
		if len(vfs) == numVFs {
			vfs[numVFs-1].setAdminMAC(t, "02:00:00:00:12:01")
		}
	}
	require.GreaterOrEqual(t, len(vfs), 32)
	vfs = vfs[:32]
	run := func(calls []call) {
		var group sync.WaitGroup
		for _, one := range calls {
			group.Go(func() {
				if a := one.try(t); a.exit != 0 {
					t.Errorf("%s of %s: %s%s", one.command, one.conf["deviceID"], a.stdout, a.stderr)
				}
			})
		}
		group.Wait()
	}
	var adds, dels []call
	var before []picture
	for i, v := range vfs {
		before = append(before, v.picture(t))
		add := call{command: "ADD", pod: newPod(t), conf: map[string]any{"deviceID": v.Address.String(), "vlan": 100 + i}}
		adds, dels = append(adds, add), append(dels, add.as("DEL"))
	}
	run(adds)
	for i, v := range vfs {
		l, err := adds[i].pod.ByName("net1")
		require.NoError(t, err)
		assert.Equal(t, v.Address.String(), l.Parent)
		assert.EqualValues(t, 100+i, v.picture(t).Admin.VLAN.ID)
	}
	run(dels)
	for i, v := range vfs {
		v.is(t, before[i])
	}
}

func TestNodeConcurrentCycles(t *testing.T) {
	const cycles = 8
	var vfs []vf
	for i := range numVFs {
		v := needVF(t, 0, i)
		if i%2 == 1 {
			v.setAdminMAC(t, fmt.Sprintf("02:00:00:00:13:%02x", i))
		}
		v.unchanged(t)
		vfs = append(vfs, v)
	}
	var group sync.WaitGroup
	for i, v := range vfs {
		pod := newPod(t)
		add, _ := attach(t, v, pod, map[string]any{
			"vlan": 100 + i, "trust": "on", "spoofchk": "off", "ipam": hostLocal("192.0.2.0/24"),
		})
		group.Go(func() {
			for c := range cycles {
				for _, one := range []call{add, add.as("DEL")} {
					if a := one.try(t); a.exit != 0 {
						t.Errorf("VF %d, cycle %d: %s: %s%s", v.Index, c, one.command, a.stdout, a.stderr)
						return
					}
				}
			}
		})
	}
	group.Wait()
	require.False(t, t.Failed())
}
