// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// recorder is an IPAM plugin that writes down its calls and then does as told.
func recorder(t *testing.T, name, then string) (dir string, calls func() []string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "calls")
	dir = script(t, name, `echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME" >> `+log+"\n"+then)
	return dir, func() []string {
		b, err := os.ReadFile(log)
		if os.IsNotExist(err) {
			return nil
		}
		require.NoError(t, err)
		return strings.Split(strings.TrimSpace(string(b)), "\n")
	}
}

func TestNodeIPAMFails(t *testing.T) { inBothStates(t, 0, 0, ipamFails) }

func ipamFails(t *testing.T, v vf) {
	for name, tc := range map[string]struct {
		script   string
		code     uint
		fragment string
	}{
		"with its code": {
			script: `[ $CNI_COMMAND = ADD ] || exit 0; echo '{"cniVersion":"1.0.0","code":11,"msg":"pool is busy","details":"d"}'; exit 1`,
			code:   11, fragment: `failed to set up IPAM plugin type "broken": pool is busy`,
		},
		"without an address": {
			script: `[ $CNI_COMMAND = ADD ] || exit 0; echo '{"cniVersion":"1.0.0","ips":[]}'`,
			code:   105, fragment: "missing IP config",
		},
		"with an impossible address": {
			script: `[ $CNI_COMMAND = ADD ] || exit 0; echo '{"cniVersion":"1.0.0","ips":[{"address":"192.0.2.7/24"}],"routes":[{"dst":"198.51.100.0/24","gw":"203.0.113.1"}]}'`,
			code:   102, fragment: "add route",
		},
	} {
		t.Run(name, func(t *testing.T) {
			v.unchanged(t)
			pod := newPod(t)
			dir, calls := recorder(t, "broken", tc.script)
			add := call{command: "ADD", pod: pod, path: dir, conf: map[string]any{"deviceID": v.Address.String(), "ipam": map[string]any{"type": "broken"}, "vlan": 100}}
			add.fails(t, tc.code, tc.fragment)
			assert.Equal(t, []string{"ADD " + pod.id + " net1", "DEL " + pod.id + " net1"}, calls())
		})
	}
}

func TestNodeIPAMDelFails(t *testing.T) { inBothStates(t, 0, 0, ipamDelFails) }

func ipamDelFails(t *testing.T, v vf) {
	v.unchanged(t)
	broken := filepath.Join(t.TempDir(), "broken")
	dir, calls := recorder(t, "moody", `
case $CNI_COMMAND in
ADD) echo '{"cniVersion":"1.0.0","ips":[{"address":"192.0.2.7/24"}]}';;
DEL) if [ -e `+broken+` ]; then echo '{"cniVersion":"1.0.0","code":11,"msg":"pool is busy"}'; exit 1; fi;;
esac`)
	pod := newPod(t)
	add := call{command: "ADD", pod: pod, path: dir, conf: map[string]any{"deviceID": v.Address.String(), "ipam": map[string]any{"type": "moody"}}}
	before := v.picture(t)
	add.ok(t)
	require.NoError(t, os.WriteFile(broken, nil, 0o600))
	add.as("DEL").fails(t, 11, "pool is busy")
	after := v.picture(t)
	assert.Len(t, after.StateDir, 1, "the record stays for the next DEL")
	after.StateDir = nil
	assert.Equal(t, before, after, "the VF does not wait for IPAM")
	require.NoError(t, os.Remove(broken))
	add.as("DEL").ok(t)
	assert.Len(t, calls(), 3)
}

// DEL of which nothing is known still has IPAM release what it may have.
func TestNodeDelOfUnknownReleasesAddresses(t *testing.T) {
	inBothStates(t, 0, 0, delOfUnknownReleasesAddresses)
}

func delOfUnknownReleasesAddresses(t *testing.T, v vf) {
	v.unchanged(t)
	dir, calls := recorder(t, "some", "")
	pod := newPod(t)
	call{command: "DEL", pod: pod, path: dir, conf: map[string]any{"deviceID": v.Address.String(), "ipam": map[string]any{"type": "some"}}}.ok(t)
	assert.Equal(t, []string{"DEL " + pod.id + " net1"}, calls())
}

func dualStack() map[string]any {
	c := hostLocal("192.0.2.0/24", "2001:db8:1::/64")
	c["routes"] = []any{map[string]any{"dst": "198.51.100.0/24"}, map[string]any{"dst": "2001:db8:2::/64", "gw": "2001:db8:1::1"}}
	return c
}

func TestNodeAddressesAreUsable(t *testing.T) { inBothStates(t, 0, 0, addressesAreUsable) }

func addressesAreUsable(t *testing.T, v vf) {
	v.unchanged(t)
	pod := newPod(t)
	// Another interface with a default route and a better claim on ff02::1.
	pod.ip(t, "link", "add", "eth0", "type", "dummy")
	pod.ip(t, "link", "set", "eth0", "up")
	pod.ip(t, "addr", "add", "10.9.9.9/24", "dev", "eth0")
	pod.ip(t, "addr", "add", "2001:db8:9::9/64", "dev", "eth0", "nodad")
	pod.ip(t, "route", "add", "default", "via", "10.9.9.1")
	frames := listen(t, pod)

	add, del := attach(t, v, pod, map[string]any{"ipam": dualStack(), "mac": "ca:fe:c0:ff:ee:25"})
	start := time.Now()
	a := add.ok(t)
	t.Logf("dual-stack ADD with gateways took %s", time.Since(start))
	require.Len(t, a.IPs, 2)
	for _, i := range a.IPs {
		require.NotNil(t, i.Interface)
		assert.Zero(t, *i.Interface)
	}
	assert.NotContains(t, pod.ip(t, "-6", "addr", "show", "dev", "net1", "scope", "global"), "tentative")
	require.NoError(t, ns.WithNetNSPath(pod.path, func(ns.NetNS) error { // bindable at once
		l, err := net.Listen("tcp", net.JoinHostPort(strings.Split(a.IPs[1].Address, "/")[0], "8080"))
		if err == nil {
			l.Close()
		}
		return err
	}))
	assert.Contains(t, pod.ip(t, "route"), "198.51.100.0/24 via 192.0.2.1 dev net1")
	assert.Contains(t, pod.ip(t, "-6", "route"), "2001:db8:2::/64 via 2001:db8:1::1 dev net1")

	l, err := pod.ByName("net1")
	require.NoError(t, err)
	arp, advert := frames(l.Index)
	assert.True(t, arp, "no ARP announcement left through net1")
	assert.True(t, advert, "no neighbour advertisement left through net1")
	call := add.as("CHECK").with(map[string]any{"prevResult": prevResult(t, a)})
	call.ok(t)
	del.ok(t)
}

// listen records the announcements that leave a namespace, by interface, and
// reports any that did not leave through the one asked for.
func listen(t *testing.T, pod podNS) func(index int) (arp, advert bool) {
	t.Helper()
	fd := -1
	require.NoError(t, ns.WithNetNSPath(pod.path, func(ns.NetNS) (err error) {
		const all = 0x0300 // ETH_P_ALL in network order
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all)
		return err
	}))
	t.Cleanup(func() { unix.Close(fd) })
	return func(index int) (arp, advert bool) {
		buf := make([]byte, 2048)
		for {
			n, from, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				require.ErrorIs(t, err, syscall.EAGAIN)
				return arp, advert
			}
			out, ok := from.(*unix.SockaddrLinklayer)
			if !ok || out.Pkttype != unix.PACKET_OUTGOING || n < 60-18 {
				continue
			}
			ours := mustMAC("ca:fe:c0:ff:ee:25")
			switch {
			case buf[12] == 0x08 && buf[13] == 0x06 && string(buf[22:28]) == string(ours):
				assert.Equal(t, index, out.Ifindex, "ARP announcement left elsewhere")
				arp = true
			case n > 60 && buf[12] == 0x86 && buf[13] == 0xdd && buf[54] == 136 && buf[62] == 0x20:
				assert.Equal(t, index, out.Ifindex, "neighbour advertisement left elsewhere")
				advert = true
			}
		}
	}
}

func TestNodeGC(t *testing.T) { inBothStates(t, 0, 0, collected) }

func collected(t *testing.T, kept vf) {
	stale, foreign := needVF(t, 0, 1), needVF(t, 0, 2)
	stale.setAdminMAC(t, "02:00:00:00:14:01")
	for _, v := range []vf{kept, stale, foreign} {
		v.unchanged(t)
	}
	before := stale.picture(t)
	dir, calls := recorder(t, "some", `[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0","ips":[{"address":"192.0.2.7/24"}]}'; exit 0`)
	ipam := map[string]any{"ipam": map[string]any{"type": "some"}, "cniVersion": "1.1.0"}
	add := func(v vf, conf map[string]any) (call, podNS) {
		pod := newPod(t)
		add, _ := attach(t, v, pod, nil)
		add = add.with(ipam).with(conf)
		add.path = dir
		add.ok(t)
		t.Cleanup(func() { add.as("DEL").ok(t) })
		return add, pod
	}
	_, keptPod := add(kept, everything())
	_, stalePod := add(stale, map[string]any{"vlan": 100})
	add(foreign, map[string]any{"name": "net-b"})
	with, other := kept.picture(t), foreign.picture(t)

	gc := call{command: "GC", path: dir, conf: map[string]any{
		"cniVersion": "1.1.0", "ipam": map[string]any{"type": "some"},
		"cni.dev/valid-attachments": []any{map[string]any{"containerID": keptPod.id, "ifname": "net1"}},
	}}
	gc.ok(t)
	stale.is(t, before)
	kept.is(t, with)
	foreign.is(t, other)
	assert.Contains(t, calls(), "DEL "+stalePod.id+" net1")
	assert.NotContains(t, calls(), "DEL "+keptPod.id+" net1")
	assert.Contains(t, strings.Join(calls(), "\n"), "GC ")
	gc.with(map[string]any{"cni.dev/valid-attachments": nil}).fails(t, 7, "cni.dev/valid-attachments")
	kept.is(t, with)
	gc.with(noneValid).ok(t)
	assert.Empty(t, kept.picture(t).StateDir)
	foreign.is(t, other)
}

func TestNodeStatus(t *testing.T) {
	needVF(t, 0, 0)
	status := call{command: "STATUS", conf: map[string]any{"cniVersion": "1.1.0"}}
	status.ok(t)
	status.with(map[string]any{"ipam": map[string]any{"type": "none-such"}}).fails(t, 50, "none-such")
	status.path = script(t, "full", `echo '{"cniVersion":"1.1.0","code":51,"msg":"pool is empty"}'; exit 1`)
	status.with(map[string]any{"ipam": map[string]any{"type": "full"}}).fails(t, 51, "pool is empty")
}
