// SPDX-License-Identifier: Apache-2.0

package link

import (
	"fmt"
	"net"
	"os"
)

// Update is what to change on an interface. A field at its zero value is left
// alone.
type Update struct {
	Name     string           // IFLA_IFNAME; at most 15 bytes
	MAC      net.HardwareAddr // IFLA_ADDRESS
	MTU      int              // IFLA_MTU, bytes
	Alias    *string          // IFLA_IFALIAS; "" removes it
	TxQLen   *uint32          // IFLA_TXQLEN
	Group    *uint32          // IFLA_GROUP
	Up       *bool            // IFF_UP
	Promisc  *bool            // IFF_PROMISC: take frames for any address
	AllMulti *bool            // IFF_ALLMULTI: take frames for any group
	NoARP    *bool            // IFF_NOARP: ask for no neighbour's address
	// Multicast is IFF_MULTICAST: send frames to groups.
	Multicast *bool
	Dormant   *bool            // IFLA_LINKMODE: wait for a program to declare it up
	Broadcast net.HardwareAddr // IFLA_BROADCAST
	NetNS     *os.File         // IFLA_NET_NS_FD: the namespace to move to
	// NewIndex is the index to have in NetNS (IFLA_NEW_IFINDEX, Linux 5.13).
	// With 0 the interface keeps its own if it is free there.
	NewIndex int
}

// IsZero reports whether the update changes nothing.
func (u Update) IsZero() bool {
	return u.Name == "" && u.MAC == nil && u.MTU == 0 && u.Alias == nil && u.TxQLen == nil && u.Group == nil && u.Up == nil &&
		u.Promisc == nil && u.AllMulti == nil && u.NoARP == nil && u.Multicast == nil && u.Dormant == nil && u.Broadcast == nil && u.NetNS == nil
}

// String lists what the update changes.
func (u Update) String() string {
	var s []byte
	add := func(set bool, format string, value any) {
		if set {
			if len(s) > 0 {
				s = append(s, ", "...)
			}
			s = fmt.Appendf(s, format, value)
		}
	}
	if u.NetNS != nil {
		add(true, "namespace %s", u.NetNS.Name())
	}
	add(u.NewIndex != 0, "index %d", u.NewIndex)
	add(u.Name != "", "name %q", u.Name)
	add(u.MAC != nil, "mac %s", u.MAC)
	add(u.MTU != 0, "mtu %d", u.MTU)
	if u.Alias != nil {
		add(true, "alias %q", *u.Alias)
	}
	if u.TxQLen != nil {
		add(true, "txqueuelen %d", *u.TxQLen)
	}
	if u.Group != nil {
		add(true, "group %d", *u.Group)
	}
	add(u.Broadcast != nil, "broadcast %s", u.Broadcast)
	for _, b := range []struct {
		name string
		on   *bool
	}{{"up", u.Up}, {"promisc", u.Promisc}, {"allmulti", u.AllMulti}, {"noarp", u.NoARP}, {"multicast", u.Multicast}, {"dormant", u.Dormant}} {
		if b.on != nil {
			add(true, b.name+" %t", *b.on)
		}
	}
	if len(s) == 0 {
		return "nothing"
	}
	return string(s)
}
