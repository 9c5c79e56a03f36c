// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"

	"github.com/sriovkit/sriovkit/libsriov/vfstate"
)

// configuration is a network that is measured.
type configuration struct {
	name     string
	commands []string
	keys     map[string]any
	floor    *vfstate.State // what the keys have the PF enforce; nil if there is no floor to measure
}

// idle is a command that does no work: what it takes is the start of a process.
const idle = "VERSION"

var attach = []string{"ADD", "DEL"}

var configurations = []configuration{
	{"process start", []string{idle}, nil, nil}, // the first: the others are told less this
	{"bare", attach, nil, &vfstate.State{}},
	{"VLAN, spoofchk, trust", attach, map[string]any{"vlan": 100, "spoofchk": "off", "trust": "on"},
		&vfstate.State{VLAN: &vfstate.VLAN{ID: 100}, SpoofCheck: vfstate.Off, Trust: vfstate.On}},
	{"VLAN, MAC, spoofchk, trust", attach, map[string]any{"vlan": 100, "spoofchk": "off", "trust": "on", "mac": "ca:fe:c0:ff:ee:01"},
		&vfstate.State{VLAN: &vfstate.VLAN{ID: 100}, SpoofCheck: vfstate.Off, Trust: vfstate.On, MAC: []byte{0xca, 0xfe, 0xc0, 0xff, 0xee, 1}}},
	{"IPv4", attach, map[string]any{"ipam": hostLocal("192.0.2.0/24", "198.51.100.0/24")}, nil},
	{"IPv4 and IPv6, gateways", attach, map[string]any{"ipam": hostLocal("192.0.2.0/24", "0.0.0.0/0", "2001:db8::/64", "::/0")}, nil},
}

// hostLocal takes pairs of subnet and route.
func hostLocal(pairs ...string) map[string]any {
	var ranges, routes []any
	for p := range slices.Chunk(pairs, 2) {
		ranges = append(ranges, []any{map[string]any{"subnet": p[0]}})
		routes = append(routes, map[string]any{"dst": p[1]})
	}
	return map[string]any{"type": "host-local", "ranges": ranges, "routes": routes, "dataDir": "/run/ipam"}
}
