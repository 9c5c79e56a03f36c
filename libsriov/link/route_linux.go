// SPDX-License-Identifier: Apache-2.0

package link

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/sriovkit/sriovkit/libsriov/internal/nl"
	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// AddRoute adds a route, beside any to the same destination that leads
// elsewhere. The errno is EEXIST if that very route is there.
func (c *Conn) AddRoute(r Route) error {
	msg := vnl.NewRtMsg()
	msg.Family, msg.Dst_len, msg.Scope = uint8(family(r.Dst.Addr())), uint8(r.Dst.Bits()), r.Scope
	req := nl.Request(unix.RTM_NEWROUTE, unix.NLM_F_CREATE, msg, vnl.NewRtAttr(unix.RTA_DST, r.Dst.Masked().Addr().AsSlice()))
	number := func(attr, n int) {
		if n != 0 {
			req.AddData(vnl.NewRtAttr(attr, vnl.Uint32Attr(uint32(n))))
		}
	}
	if r.Gateway.IsValid() {
		if r.Gateway.Is4() != r.Dst.Addr().Is4() {
			return fmt.Errorf("add route %s via %s: gateway of another address family", r.Dst, r.Gateway)
		}
		req.AddData(vnl.NewRtAttr(unix.RTA_GATEWAY, r.Gateway.AsSlice()))
	}
	number(unix.RTA_OIF, r.Index)
	number(unix.RTA_PRIORITY, r.Priority)
	if r.Table != 0 {
		msg.Table = unix.RT_TABLE_UNSPEC // RTA_TABLE has room for any number
		number(unix.RTA_TABLE, r.Table)
	}
	if r.MTU != 0 || r.AdvMSS != 0 {
		metrics := vnl.NewRtAttr(unix.RTA_METRICS, nil)
		for attr, n := range map[int]int{unix.RTAX_MTU: r.MTU, unix.RTAX_ADVMSS: r.AdvMSS} {
			if n != 0 {
				metrics.AddRtAttr(attr, vnl.Uint32Attr(uint32(n)))
			}
		}
		req.AddData(metrics)
	}
	if _, err := c.socket.Execute(req); err != nil {
		return fmt.Errorf("add route %s via %s: %w", r.Dst, r.Gateway, err)
	}
	return nil
}

// Routes reads the unicast routes of both families and every table.
func (c *Conn) Routes() ([]Route, error) {
	return c.routes(func(*vnl.RtMsg) bool { return true })
}

// DefaultRoutes reads the indexes of the interfaces that default routes leave
// through, IPv4 and IPv6, in every routing table, each index once and in
// ascending order. Every next hop of a multipath route counts; routes that
// forward nothing (blackhole, unreachable) do not. Other routes, of which a router
// has a million, are dropped as they arrive.
func (c *Conn) DefaultRoutes() ([]int, error) {
	routes, err := c.routes(func(head *vnl.RtMsg) bool { return head.Dst_len == 0 })
	if err != nil {
		return nil, err
	}
	var indexes []int
	for _, r := range routes {
		if r.Index != 0 {
			indexes = append(indexes, r.Index)
		}
	}
	slices.Sort(indexes)
	return slices.Compact(indexes), nil
}

// routes reads the unicast routes whose header is wanted.
func (c *Conn) routes(wanted func(*vnl.RtMsg) bool) ([]Route, error) {
	var routes []Route
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		before := len(routes)
		req := nl.Request(unix.RTM_GETROUTE, unix.NLM_F_DUMP, &vnl.RtMsg{RtMsg: unix.RtMsg{Family: family}})
		err := c.socket.Each(req, func() { routes = routes[:before] }, func(m []byte) error {
			if len(m) < unix.SizeofRtMsg {
				return errTooShort
			}
			if !wanted(vnl.DeserializeRtMsg(m)) {
				return nil
			}
			found, err := parseRoute(m)
			routes = append(routes, found...)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
	}
	return routes, nil
}

// parseRoute reads a RTM_NEWROUTE message: none if it is no unicast route or one
// that the kernel derived from another, several if it has several next hops.
func parseRoute(m []byte) ([]Route, error) {
	if len(m) < unix.SizeofRtMsg {
		return nil, errTooShort
	}
	head := vnl.DeserializeRtMsg(m)
	if head.Type != unix.RTN_UNICAST || head.Flags&unix.RTM_F_CLONED != 0 {
		return nil, nil
	}
	r := Route{Table: int(head.Table), Scope: head.Scope}
	dst := netip.IPv6Unspecified()
	if head.Family == unix.AF_INET {
		dst = netip.IPv4Unspecified()
	}
	var hops []Route
	var broken error
	err := nl.Nested(m[unix.SizeofRtMsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(value)
		case unix.RTA_GATEWAY:
			r.Gateway, _ = netip.AddrFromSlice(value)
		case unix.RTA_OIF:
			r.Index = int(number(value))
		case unix.RTA_PRIORITY:
			r.Priority = int(number(value))
		case unix.RTA_TABLE:
			r.Table = int(number(value))
		case unix.RTA_METRICS:
			broken = nl.Nested(value, r.takeMetric)
		case unix.RTA_MULTIPATH:
			hops, broken = parseNextHops(value)
		}
	})
	if err == nil {
		err = broken
	}
	if err != nil {
		return nil, err
	}
	r.Dst = netip.PrefixFrom(dst, int(head.Dst_len))
	if hops == nil {
		return []Route{r}, nil
	}
	for i, hop := range hops {
		hops[i] = r
		hops[i].Index, hops[i].Gateway = hop.Index, hop.Gateway
	}
	return hops, nil
}

func (r *Route) takeMetric(kind uint16, value []byte) {
	switch kind {
	case unix.RTAX_MTU:
		r.MTU = int(number(value))
	case unix.RTAX_ADVMSS:
		r.AdvMSS = int(number(value))
	}
}

// parseNextHops reads interfaces and gateways of a list of struct rtnexthop,
// each of which is followed by attributes of its own.
func parseNextHops(b []byte) ([]Route, error) {
	var hops []Route
	for len(b) >= unix.SizeofRtNexthop {
		head := vnl.DeserializeRtNexthop(b)
		size := int(head.RtNexthop.Len)
		if size < unix.SizeofRtNexthop || size > len(b) {
			return nil, errTooShort
		}
		hop := Route{Index: int(head.Ifindex)}
		err := nl.Nested(b[unix.SizeofRtNexthop:size], func(kind uint16, value []byte) {
			if kind == unix.RTA_GATEWAY {
				hop.Gateway, _ = netip.AddrFromSlice(value)
			}
		})
		if err != nil {
			return nil, err
		}
		hops = append(hops, hop)
		b = b[min(len(b), (size+3)&^3):] // RTNH_ALIGN
	}
	return hops, nil
}
