// SPDX-License-Identifier: Apache-2.0

//go:build linux

package event

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Default routes of both families are told of, wherever they are, and addresses that an IPv4
// route may vanish with; other routes and new addresses are not.
func TestDefaultRoutes(t *testing.T) {
	t.Parallel()
	ns := sriovtest.NewNetNS(t)
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	require.NoError(t, err)
	defer h.Close()
	require.NoError(t, h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br"}}))
	br, err := h.LinkByName("br")
	require.NoError(t, err)
	require.NoError(t, h.LinkSetUp(br))
	routes, err := OpenDefaultRoutes(ns)
	require.NoError(t, err)
	defer routes.Close()
	prefix := func(s string) *net.IPNet {
		_, p, err := net.ParseCIDR(s)
		require.NoError(t, err)
		return p
	}
	for _, other := range []string{"192.0.2.0/24", "2001:db8::/32"} {
		require.NoError(t, h.RouteAdd(&netlink.Route{Dst: prefix(other), LinkIndex: br.Attrs().Index}))
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(198, 51, 100, 1), Mask: net.CIDRMask(24, 32)}}
	require.NoError(t, h.AddrAdd(br, address))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	_, err = routes.Next(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "told of other routes")
	cancel()
	told := func(index int) {
		got, err := routes.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, index, got)
	}
	for _, r := range []netlink.Route{
		{Dst: prefix("0.0.0.0/0"), LinkIndex: br.Attrs().Index},
		{Dst: prefix("0.0.0.0/0"), LinkIndex: br.Attrs().Index, Table: 200},
		{Dst: prefix("::/0"), LinkIndex: br.Attrs().Index},
	} {
		require.NoError(t, h.RouteAdd(&r))
		told(0)
		require.NoError(t, h.RouteDel(&r))
		told(0)
	}
	require.NoError(t, h.RouteAdd(&netlink.Route{Dst: prefix("0.0.0.0/0"), Gw: net.IPv4(198, 51, 100, 2)}))
	told(0)
	require.NoError(t, h.AddrDel(br, address))
	told(br.Attrs().Index)
}
