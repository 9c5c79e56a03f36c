// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"

	"github.com/sriovkit/sriovkit/libsriov/link"
)

// Network is what rtnetlink tells of the host's interfaces. The zero value
// knows nothing, as for a captured tree.
type Network struct {
	links  map[string]link.Link // by name
	routes map[string]string    // interface name or parent device -> why it is needed
	needed map[int]bool         // indexes of the interfaces of routes, and of what they are ports of
}

// NewNetwork works out which devices carry the default routes that leave
// through the interfaces with the given indexes: those interfaces, and all that
// they stand on. A bond or bridge stands on its ports, a VLAN or macvlan on its
// lower interface, a port of Open vSwitch on every other port.
func NewNetwork(links []link.Link, defaults []int) Network {
	n := Network{links: make(map[string]link.Link, len(links)), routes: map[string]string{}, needed: map[int]bool{}}
	byIndex, ports := map[int]link.Link{}, map[int][]int{}
	var vswitch []int // ports of Open vSwitch, whose bridges are all one datapath here
	for _, l := range links {
		n.links[l.Name] = l
		byIndex[l.Index] = l
		ports[l.Master] = append(ports[l.Master], l.Index)
	}
	for _, l := range links {
		if l.Master != 0 && byIndex[l.Master].Kind == "openvswitch" {
			vswitch = append(vswitch, l.Index)
		}
	}
	for _, top := range defaults {
		n.needed[top] = true
		seen := map[int]bool{}
		for todo := []int{top}; len(todo) > 0; {
			l, ok := byIndex[todo[0]]
			todo = todo[1:]
			if !ok || seen[l.Index] {
				continue
			}
			seen[l.Index] = true
			n.carries(l, byIndex[top])
			todo = append(todo, ports[l.Index]...)
			if l.Lower != 0 && l.NetNSID == nil {
				todo = append(todo, l.Lower)
			}
			if l.Kind == "openvswitch" {
				todo = append(todo, vswitch...)
			}
		}
	}
	return n
}

func (n Network) carries(l, top link.Link) {
	why := fmt.Sprintf("carries the host's default route (%s)", l.Name)
	if l.Index != top.Index {
		why = fmt.Sprintf("carries the host's default route (%s, below %s)", l.Name, top.Name)
	}
	n.routes[l.Name] = why
	n.needed[l.Index] = true
	if l.Master != 0 {
		n.needed[l.Master] = true
	}
	if l.Parent != "" && l.PortName == "" { // a representor's parent is the PF, which is not it
		n.routes[l.Parent] = why
	}
}

// Needed has the indexes of the interfaces that default routes stand on. A change of one of
// them, or of what is a port of one, may change which devices must stay with the host; one of
// another virtual interface does not before a default route leads there.
func (n Network) Needed() map[int]bool { return n.needed }

// barred says why a device with these names and interfaces must stay with the
// host; "" if it need not.
func (n Network) barred(id string, netdevs []string) string {
	if why := n.routes[id]; why != "" {
		return why
	}
	for _, name := range netdevs {
		if why := n.routes[name]; why != "" {
			return why
		}
	}
	return ""
}

// carrier reports whether an interface has a link partner; nil if it is not
// known. One that is down by order has none either.
func (n Network) carrier(netdev string) *bool {
	l, ok := n.links[netdev]
	if !ok {
		return nil
	}
	up := l.Carrier()
	return &up
}
