// SPDX-License-Identifier: Apache-2.0

// Package gateway moves a pod's default routes to the attachment that asked
// for them: in the kernel (rtnetlink, RTM_GETROUTE, RTM_DELROUTE, RTM_NEWROUTE
// in the main table of the pod's network namespace) and in the CNI results that
// describe it. Families are independent: who asks for IPv4 leaves IPv6 alone.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Families.
const (
	V4 = netlink.FAMILY_V4
	V6 = netlink.FAMILY_V6
)

// Route is a default route.
type Route struct {
	Family  int        // V4 or V6
	Gateway netip.Addr // invalid: straight onto the link
}

// Wanted are the default routes an attachment shall have: one per gateway it
// asked for, or those of its own result when it asked to keep these.
func Wanted(asked []netip.Addr, own []Route) []Route {
	if len(asked) == 0 {
		return own
	}
	var routes []Route
	for _, gw := range asked {
		routes = append(routes, Route{family(gw), gw})
	}
	return routes
}

func family(addr netip.Addr) int {
	if addr.Is4() {
		return V4
	}
	return V6
}

// Apply makes routes, at most one per family, the only default routes of their
// families in the namespace, through the given interface.
func Apply(ctx context.Context, netnsPath, ifname string, routes []Route) (err error) {
	if len(routes) == 0 {
		return nil
	}
	h, err := open(netnsPath)
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("interface %s: %w", ifname, err)
	}
	for _, r := range routes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := replace(h, link.Attrs().Index, r); err != nil {
			return fmt.Errorf("default route via %s on %s: %w", r.Gateway, ifname, err)
		}
	}
	return nil
}

func replace(h *netlink.Handle, index int, want Route) error {
	defaults, err := defaultRoutes(h, want.Family)
	if err != nil {
		return err
	}
	var deleted []netlink.Route
	for _, have := range defaults {
		if err := h.RouteDel(&have); err != nil {
			return errors.Join(fmt.Errorf("delete %s: %w", have, err), restore(h, deleted))
		}
		deleted = append(deleted, have)
	}
	route := &netlink.Route{LinkIndex: index, Dst: anywhere(want.Family)}
	if want.Gateway.IsValid() {
		route.Gw = want.Gateway.AsSlice()
	} else {
		route.Scope = netlink.SCOPE_LINK
	}
	if err := h.RouteAdd(route); err != nil {
		return errors.Join(err, restore(h, deleted))
	}
	return nil
}

// restore puts deleted routes back: a pod is not left without default routes.
func restore(h *netlink.Handle, deleted []netlink.Route) error {
	var errs []error
	for _, r := range deleted {
		errs = append(errs, h.RouteAdd(&r))
	}
	return errors.Join(errs...)
}

// defaultRoutes dumps the default routes of the main table, again when a change
// interrupted the dump (NLM_F_DUMP_INTR).
func defaultRoutes(h *netlink.Handle, family int) ([]netlink.Route, error) {
	const attempts = 5
	for i := 1; ; i++ {
		routes, err := h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if errors.Is(err, netlink.ErrDumpInterrupted) && i < attempts {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		var defaults []netlink.Route
		for _, r := range routes {
			if isDefault(r.Dst) {
				defaults = append(defaults, r)
			}
		}
		return defaults, nil
	}
}

// isDefault: the kernel names no destination, the library gives ::/0 or nil.
func isDefault(dst *net.IPNet) bool {
	if dst == nil {
		return true
	}
	ones, _ := dst.Mask.Size()
	return ones == 0 && dst.IP.IsUnspecified()
}

func anywhere(family int) *net.IPNet {
	if family == V4 {
		return &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	}
	return &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
}

// Interfaces lists the names of all interfaces in the namespace, alternative ones
// included.
func Interfaces(netnsPath string) ([]string, error) {
	h, err := open(netnsPath)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	const attempts = 5
	for i := 1; ; i++ {
		links, err := h.LinkList()
		if errors.Is(err, netlink.ErrDumpInterrupted) && i < attempts {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list interfaces: %w", err)
		}
		var names []string
		for _, l := range links {
			names = append(append(names, l.Attrs().Name), l.Attrs().AltNames...)
		}
		return names, nil
	}
}

// open returns a netlink socket that lives in the namespace; the calling thread
// is back in its own afterwards.
func open(path string) (*netlink.Handle, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("network namespace %s: %w", path, err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("network namespace %s: %w", path, err)
	}
	return h, nil
}
