// SPDX-License-Identifier: Apache-2.0

//go:build linux

package link_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func TestDefaultRoutes(t *testing.T) {
	t.Parallel()
	ns := sriovtest.NewNetNS(t)
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()))
	require.NoError(t, err)
	defer h.Close()
	index := map[string]int{}
	for _, name := range []string{"a", "b", "c", "d"} {
		require.NoError(t, h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}))
		l, err := h.LinkByName(name)
		require.NoError(t, err)
		require.NoError(t, h.LinkSetUp(l))
		index[name] = l.Attrs().Index
	}
	c, err := link.Open(ns)
	require.NoError(t, err)
	defer c.Close()

	got, err := c.DefaultRoutes()
	require.NoError(t, err)
	require.Empty(t, got)

	v4, v6 := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	_, some, err := net.ParseCIDR("192.0.2.0/24")
	require.NoError(t, err)
	for _, r := range []netlink.Route{
		{Dst: v4, Table: 100, MultiPath: []*netlink.NexthopInfo{{LinkIndex: index["a"]}, {LinkIndex: index["c"]}}},
		{Dst: v6, LinkIndex: index["b"]},
		{Dst: v4, Table: 200, Type: unix.RTN_UNREACHABLE},
		{Dst: some, LinkIndex: index["d"]},
	} {
		require.NoError(t, h.RouteAdd(&r), "%+v", r)
	}
	got, err = c.DefaultRoutes()
	require.NoError(t, err)
	require.Equal(t, []int{index["a"], index["b"], index["c"]}, got)
}

// What is added is read back, by this package and by another's reading.
func TestAddressesAndRoutes(t *testing.T) {
	t.Parallel()
	ns := sriovtest.NewNetNS(t)
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()))
	require.NoError(t, err)
	defer h.Close()
	require.NoError(t, h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "a"}}))
	l, err := h.LinkByName("a")
	require.NoError(t, err)
	require.NoError(t, h.LinkSetUp(l))
	c, err := link.Open(ns)
	require.NoError(t, err)
	defer c.Close()
	index := l.Attrs().Index

	v4, v6 := netip.MustParsePrefix("192.0.2.7/24"), netip.MustParsePrefix("2001:db8::7/64")
	for _, a := range []netip.Prefix{v4, v6} {
		require.NoError(t, c.AddAddress(index, a, true))
		require.ErrorIs(t, c.AddAddress(index, a, true), unix.EEXIST)
	}
	addresses, err := c.Addresses(index)
	require.NoError(t, err)
	require.Contains(t, addresses, v4)
	require.Contains(t, addresses, v6)
	seen, err := h.AddrList(l, netlink.FAMILY_ALL)
	require.NoError(t, err)
	for _, a := range seen {
		switch a.IPNet.String() {
		case v4.String():
			require.Equal(t, "192.0.2.255", a.Broadcast.String())
		case v6.String():
			require.NotZero(t, a.Flags&unix.IFA_F_NODAD)
			require.Zero(t, a.Flags&unix.IFA_F_TENTATIVE)
		}
	}

	for name, r := range map[string]link.Route{
		"on the link":       {Dst: netip.MustParsePrefix("198.51.100.0/24"), Scope: unix.RT_SCOPE_LINK},
		"default":           {Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("192.0.2.1")},
		"with all there is": {Dst: netip.MustParsePrefix("203.0.113.0/25"), Gateway: netip.MustParseAddr("192.0.2.1"), Table: 1000, Priority: 7, MTU: 1400, AdvMSS: 1300},
		"IPv6":              {Dst: netip.MustParsePrefix("2001:db8:1::/48"), Gateway: netip.MustParseAddr("2001:db8::1"), Priority: 9, MTU: 1400},
		"IPv6 default":      {Dst: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("2001:db8::1"), Priority: 9, Table: 300},
	} {
		t.Run(name, func(t *testing.T) {
			r.Index = index
			require.NoError(t, c.AddRoute(r))
			if r.Dst.Addr().Is4() {
				require.ErrorIs(t, c.AddRoute(r), unix.EEXIST)
			}
			if r.Table == 0 {
				r.Table = unix.RT_TABLE_MAIN
			}
			routes, err := c.Routes()
			require.NoError(t, err)
			require.Contains(t, routes, r)
		})
	}
	mixed := link.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("2001:db8::1"), Index: index}
	require.ErrorContains(t, c.AddRoute(mixed), "gateway of another address family")
	unreachable := link.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("203.0.113.200"), Index: index, Priority: 5}
	require.ErrorIs(t, c.AddRoute(unreachable), unix.ENETUNREACH)
}
