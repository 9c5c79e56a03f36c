// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/sriovkit/sriovkit/libsriov/event"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// What a pod with CAP_NET_ADMIN changed on its interface is not passed on to the next pod,
// and interfaces that it stacked on top are removed.
func TestNodePodsLeftovers(t *testing.T) { inBothStates(t, 0, 0, podsLeftovers) }

func podsLeftovers(t *testing.T, v vf) {
	v.unchanged(t)
	before := v.picture(t)
	c, _ := pfOf(t, v)
	was, err := c.ByParent(v.Address)
	require.NoError(t, err)
	for name, ends := range map[string]bool{"pod lives": false, "namespace ended": true} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(t)
			add, del := attach(t, v, pod, map[string]any{"trust": "on"})
			add.ok(t)
			pod.ip(t, "link", "add", "link", "net1", "name", "net1.100", "type", "vlan", "id", "100")
			pod.ip(t, "link", "add", "mv0", "link", "net1", "type", "macvlan", "mode", "bridge")
			pod.ip(t, "link", "add", "link", "mv0", "name", "mv0.5", "type", "vlan", "id", "5")
			pod.ip(t, "link", "add", "innocent", "type", "dummy")
			pod.ip(t, "link", "set", "net1", "alias", "mine", "txqueuelen", "7", "group", "42")
			pod.ip(t, "link", "set", "net1", "arp", "off", "multicast", "off", "mode", "dormant", "broadcast", "02:02:02:02:02:02")
			l, err := pod.ByName("net1")
			require.NoError(t, err)
			attachXDP(t, pod, l.Index)
			l, err = pod.ByName("net1")
			require.NoError(t, err)
			require.NotZero(t, l.XDP)
			if ends {
				pod.end(t)
			}
			del.ok(t)
			v.is(t, before)
			after, err := c.ByParent(v.Address)
			require.NoError(t, err)
			assert.Equal(t, was, after)
			if !ends {
				links, err := pod.All()
				require.NoError(t, err)
				for _, l := range links {
					assert.Contains(t, []string{"lo", "innocent"}, l.Name)
				}
			}
		})
	}
}

// attachXDP has an interface pass every packet by way of a program.
func attachXDP(t *testing.T, pod podNS, index int) {
	t.Helper()
	program := []uint64{0x00000002_000000b7, 0x00000000_00000095} // r0 = XDP_PASS; exit
	license := []byte("GPL\x00")
	attr := struct {
		kind, count  uint32
		insns, legal uint64
		_            [12]uint64
	}{kind: 6, count: 2, insns: uint64(uintptr(unsafe.Pointer(&program[0]))), legal: uint64(uintptr(unsafe.Pointer(&license[0])))} // BPF_PROG_TYPE_XDP
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	require.Zero(t, errno, errno)
	defer unix.Close(int(fd))
	require.NoError(t, pod.AttachXDP(index, int(fd), unix.XDP_FLAGS_SKB_MODE))
}

// Nobody on the host ever sees the VF under its name in the pod.
func TestNodeHostDoesNotSeeThePodsName(t *testing.T) {
	inBothStates(t, 0, 0, hostDoesNotSeeThePodsName)
}

func hostDoesNotSeeThePodsName(t *testing.T, v vf) {
	v.unchanged(t)
	add, del := attach(t, v, newPod(t), everything())
	add.ifname, del.ifname = "podside0", "podside0"
	events, err := event.OpenLinks(nil)
	require.NoError(t, err)
	defer events.Close()
	add.ok(t)
	del.ok(t)
	ip(t, "link", "add", "last", "type", "dummy")
	t.Cleanup(func() { ip(t, "link", "del", "last") })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for seen := ""; seen != "last"; {
		e, err := events.Next(ctx)
		require.NoError(t, err)
		seen = e.Link.Name
		assert.NotEqual(t, "podside0", seen)
	}
}

// DEL works if the pod has another interface with the name that the VF has on the host.
func TestNodePodHasTheHostsName(t *testing.T) { inBothStates(t, 0, 0, podHasTheHostsName) }

func podHasTheHostsName(t *testing.T, v vf) {
	v.unchanged(t)
	pod := newPod(t)
	add, del := attach(t, v, pod, everything())
	add.ok(t)
	pod.ip(t, "link", "add", v.Netdevs[0], "type", "dummy")
	del.ok(t)
}

// An IPAM plugin finds the interface up in the pod at ADD, with VLAN and MAC in
// force, and still there at DEL, as dhcp needs it.
func TestNodeIPAMSeesTheInterface(t *testing.T) { inBothStates(t, 0, 0, ipamSeesTheInterface) }

func ipamSeesTheInterface(t *testing.T, v vf) {
	v.unchanged(t)
	c, pf := pfOf(t, v)
	seen := filepath.Join(t.TempDir(), "seen")
	dir := script(t, "looking", `
{ echo $CNI_COMMAND; nsenter --net=$CNI_NETNS ip link show $CNI_IFNAME; ip link show `+ifnameOf(t, c, pf)+` | grep "vf `+fmt.Sprint(v.Index)+` "; } >> `+seen+` 2>&1
[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0","ips":[{"address":"192.0.2.7/24"}]}'
exit 0`)
	add := call{command: "ADD", pod: newPod(t), path: dir, conf: map[string]any{
		"deviceID": v.Address.String(), "ipam": map[string]any{"type": "looking"}, "vlan": 100, "mac": "ca:fe:c0:ff:ee:52",
	}}
	t.Cleanup(func() { add.as("DEL").ok(t) })
	add.ok(t)
	add.as("DEL").ok(t)
	b, err := os.ReadFile(seen)
	require.NoError(t, err)
	atADD, atDEL, _ := strings.Cut(string(b), "DEL\n")
	assert.Contains(t, atADD, "net1: ")
	assert.Regexp(t, `net1: <[^>]*\bUP\b`, atADD)
	for _, s := range []string{atADD, atDEL} {
		assert.Contains(t, s, "net1: ")
		assert.Contains(t, s, "vlan 100")
		assert.Contains(t, s, "ca:fe:c0:ff:ee:52")
	}
}

// An IPAM plugin that dies has no error code of its own.
func TestNodeIPAMDies(t *testing.T) { inBothStates(t, 0, 0, ipamDies) }

func ipamDies(t *testing.T, v vf) {
	v.unchanged(t)
	dir := script(t, "dying", `[ $CNI_COMMAND = ADD ] && kill -9 $$; exit 0`)
	call{command: "ADD", pod: newPod(t), path: dir, conf: map[string]any{"deviceID": v.Address.String(), "ipam": map[string]any{"type": "dying"}}}.fails(t, 105, "killed")
}

// A later plugin of the chain gave the trusted VF another MAC.
func TestNodeCheckAfterTuning(t *testing.T) { inBothStates(t, 0, 0, checkAfterTuning) }

func checkAfterTuning(t *testing.T, v vf) {
	v.unchanged(t)
	pod := newPod(t)
	add, _ := attach(t, v, pod, map[string]any{"trust": "on", "mac": "ca:fe:c0:ff:ee:53"})
	a := add.ok(t)
	pod.ip(t, "link", "set", "net1", "address", "ca:fe:c0:ff:ee:54")
	prev := prevResult(t, a)
	prev["interfaces"].([]any)[0].(map[string]any)["mac"] = "ca:fe:c0:ff:ee:54"
	add.as("CHECK").with(map[string]any{"prevResult": prev}).ok(t)
	prev["ips"] = []any{nil}
	add.as("CHECK").with(map[string]any{"prevResult": prev}).fails(t, 6, "ips[0]: null")
}

// An interface that the host's network manager set up meanwhile.
func TestNodeSetUpOnTheHostMeanwhile(t *testing.T) { inBothStates(t, 0, 0, setUpOnTheHostMeanwhile) }

func setUpOnTheHostMeanwhile(t *testing.T, v vf) {
	v.unchanged(t)
	pod := newPod(t)
	add, del := attach(t, v, pod, everything())
	add.ok(t)
	l, err := pod.ByName("net1")
	require.NoError(t, err)
	pod.end(t)
	waitFor(t, "", l.Index, func(l link.Link) bool { return l.Parent == v.Address.String() })
	ip(t, "link", "set", "net1", "up")
	del.ok(t)
}
