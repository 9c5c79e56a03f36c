// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/stretchr/testify/require"
)

// CHECK finds a change of anything that it compares.
func TestNodeCheck(t *testing.T) {
	v, other := needVF(t, 0, 0), needVF(t, 0, 1)
	v.unchanged(t)
	other.unchanged(t)
	pod := newPod(t)
	add, del := attach(t, v, pod, map[string]any{
		"vlan": 100, "mac": "ca:fe:c0:ff:ee:36", "spoofchk": "off", "trust": "on", "max_tx_rate": 100, "mtu": 1400, "ipam": dualStack(),
	})
	a := add.ok(t)
	check := add.as("CHECK").with(map[string]any{"prevResult": prevResult(t, a)})
	check.ok(t)
	add.as("CHECK").fails(t, 7, "prevResult")

	renamesUp := exec.Command("ip", "-n", filepath.Base(pod.path), "link", "set", "lo", "name", "lo1").Run() == nil // since Linux 6.2
	if renamesUp {
		pod.ip(t, "link", "set", "lo1", "name", "lo")
	}
	c, pf := pfOf(t, v)
	vfOnPF := "link set " + ifnameOf(t, c, pf) + " vf " + fmt.Sprint(v.Index) + " "
	podName := filepath.Base(pod.path)
	in := "-n " + podName + " "
	name := other.picture(t).Link.Name
	const (
		route4, route6 = "198.51.100.0/24 via 192.0.2.1 dev net1", "2001:db8:2::/64 via 2001:db8:1::1 dev net1"
		host           = "1" // the namespace of that process
	)
	for name, tc := range map[string]struct {
		change, back []string
		fragment     string
	}{
		"VLAN":     {[]string{vfOnPF + "vlan 101"}, []string{vfOnPF + "vlan 100"}, "vlan is not 100"},
		"VLAN QoS": {[]string{vfOnPF + "vlan 100 qos 1"}, []string{vfOnPF + "vlan 100"}, "vlan is not 100 qos 0"},
		"PF's MAC": {[]string{vfOnPF + "mac ca:fe:c0:ff:ee:37"}, []string{vfOnPF + "mac ca:fe:c0:ff:ee:36"}, "mac is not ca:fe:c0:ff:ee:36"},
		"rate":     {[]string{vfOnPF + "max_tx_rate 200"}, []string{vfOnPF + "max_tx_rate 100"}, "rate is not 0 to 100"},
		"spoofchk": {[]string{vfOnPF + "spoofchk on"}, []string{vfOnPF + "spoofchk off"}, "spoofchk is not off"},
		"trust":    {[]string{vfOnPF + "trust off"}, []string{vfOnPF + "trust on"}, "trust is not on"},
		"MTU":      {[]string{in + "link set net1 mtu 1300"}, []string{in + "link set net1 mtu 1400"}, "mtu is 1300, want 1400"},
		"name":     {[]string{in + "link set net1 name foo"}, []string{in + "link set foo name net1"}, "net1"},
		"device": {
			[]string{in + "link set net1 name foo", "link set " + name + " netns " + podName + " name net1"},
			[]string{in + "link set net1 netns " + host + " name " + name, in + "link set foo name net1"}, "device is " + other.Address.String(),
		},
		"address": {
			[]string{in + "addr del " + a.IPs[0].Address + " dev net1"},
			[]string{in + "addr add " + a.IPs[0].Address + " dev net1", in + "route add " + route4}, "address " + a.IPs[0].Address,
		},
		"IPv6 address": {
			[]string{in + "addr del " + a.IPs[1].Address + " dev net1"},
			[]string{in + "addr add " + a.IPs[1].Address + " dev net1 nodad", in + "route replace " + route6}, "address " + a.IPs[1].Address,
		},
		"route":      {[]string{in + "route del " + route4}, []string{in + "route add " + route4}, "route 198.51.100.0/24 is missing"},
		"IPv6 route": {[]string{in + "route del " + route6}, []string{in + "route add " + route6}, "route 2001:db8:2::/64 is missing"},
	} {
		if !renamesUp && (name == "name" || name == "device") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			for _, args := range tc.change {
				ip(t, strings.Fields(args)...)
			}
			check.fails(t, 104, tc.fragment)
			for _, args := range tc.back {
				ip(t, strings.Fields(args)...)
			}
			check.ok(t)
		})
	}
	pod.ip(t, "link", "set", "net1", "down") // takes routes with it
	check.fails(t, 104, "state is down")
	del.ok(t)
	check.fails(t, 104, "is not attached")
}

// The pod may change its MAC, if the VF has no administrative one.
func TestNodeCheckMAC(t *testing.T) {
	v := needVF(t, 0, 0) // with an administrative MAC the pod could not set another
	v.unchanged(t)
	pod := newPod(t)
	add, _ := attach(t, v, pod, nil)
	a := add.ok(t)
	check := add.as("CHECK").with(map[string]any{"prevResult": prevResult(t, a)})
	check.ok(t)
	pod.ip(t, "link", "set", "net1", "address", "ca:fe:c0:ff:ee:38")
	check.fails(t, 104, "mac is ca:fe:c0:ff:ee:38, want "+a.Interfaces[0].Mac)
	pod.ip(t, "link", "set", "net1", "address", a.Interfaces[0].Mac)
	check.ok(t)
}

// CHECK returns the IPAM plugin's error.
func TestNodeCheckIPAM(t *testing.T) {
	v := needVF(t, 0, 0)
	v.unchanged(t)
	dir, calls := recorder(t, "forgetful", `
case $CNI_COMMAND in
ADD) echo '{"cniVersion":"1.0.0","ips":[{"address":"192.0.2.7/24"}]}';;
CHECK) echo '{"cniVersion":"1.0.0","code":120,"msg":"no such lease"}'; exit 1;;
esac`)
	add := call{command: "ADD", pod: newPod(t), path: dir, conf: map[string]any{"deviceID": v.Address.String(), "ipam": map[string]any{"type": "forgetful"}}}
	t.Cleanup(func() { add.as("DEL").ok(t) })
	a := add.ok(t)
	add.as("CHECK").with(map[string]any{"prevResult": prevResult(t, a)}).fails(t, 120, "no such lease")
	require.Contains(t, calls(), "CHECK "+add.pod.id+" net1")
}

func ifnameOf(t *testing.T, c *link.Conn, index int) string {
	t.Helper()
	l, err := c.ByIndex(index)
	require.NoError(t, err)
	return l.Name
}
