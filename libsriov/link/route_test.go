package link_test

import (
	"net"
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
