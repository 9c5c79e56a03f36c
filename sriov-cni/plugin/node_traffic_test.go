package plugin_test

import (
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ping sends one echo request and tells whether an answer came.
func ping(pod podNS, to string, seconds string) bool {
	return exec.Command("ip", "netns", "exec", pod.path[len("/run/netns/"):], "ping", "-c", "1", "-w", seconds, to).Run() == nil
}

func TestNodePodsReachEachOther(t *testing.T) {
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

func TestNodeConcurrentAddsOfOneVF(t *testing.T) {
	v := needVF(t, 0, 0)
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

func TestNodeConcurrentCycles(t *testing.T) {
	const cycles = 20
	var vfs []vf
	for i := range numVFs {
		v := needVF(t, 0, i)
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
