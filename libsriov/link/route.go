package link

import (
	"fmt"
	"slices"

	"github.com/sriovkit/sriovkit/libsriov/internal/nl"
	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// DefaultRoutes reads the indexes of the interfaces that default routes leave
// through, IPv4 and IPv6, in every routing table, each index once and in
// ascending order. Every next hop of a multipath route counts; routes that
// forward nothing (blackhole, unreachable) do not.
func (c *Conn) DefaultRoutes() ([]int, error) {
	var indexes []int
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		out, err := c.socket.Execute(nl.Request(unix.RTM_GETROUTE, unix.NLM_F_DUMP,
			&vnl.RtMsg{RtMsg: unix.RtMsg{Family: family}}))
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, m := range out {
			found, err := parseDefaultRoute(m)
			if err != nil {
				return nil, fmt.Errorf("list routes: %w", err)
			}
			indexes = append(indexes, found...)
		}
	}
	slices.Sort(indexes)
	return slices.Compact(indexes), nil
}

// parseDefaultRoute reads the interfaces of a RTM_NEWROUTE message; none if it
// is not a default route.
func parseDefaultRoute(m []byte) ([]int, error) {
	if len(m) < unix.SizeofRtMsg {
		return nil, errTooShort
	}
	head := vnl.DeserializeRtMsg(m)
	if head.Dst_len != 0 || head.Type != unix.RTN_UNICAST || head.Flags&unix.RTM_F_CLONED != 0 {
		return nil, nil
	}
	var indexes []int
	var broken error
	err := nl.Nested(m[unix.SizeofRtMsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.RTA_OIF:
			indexes = append(indexes, int(number(value)))
		case unix.RTA_MULTIPATH:
			var hops []int
			hops, broken = parseNextHops(value)
			indexes = append(indexes, hops...)
		}
	})
	if err != nil {
		return nil, err
	}
	return indexes, broken
}

// parseNextHops reads the interfaces of a list of struct rtnexthop.
func parseNextHops(b []byte) ([]int, error) {
	var indexes []int
	for len(b) >= unix.SizeofRtNexthop {
		hop := vnl.DeserializeRtNexthop(b)
		size := int(hop.RtNexthop.Len)
		if size < unix.SizeofRtNexthop || size > len(b) {
			return nil, errTooShort
		}
		indexes = append(indexes, int(hop.Ifindex))
		b = b[min(len(b), (size+3)&^3):] // RTNH_ALIGN
	}
	return indexes, nil
}
