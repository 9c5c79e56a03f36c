// SPDX-License-Identifier: Apache-2.0

//go:build linux

package event

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

func TestParseDevice(t *testing.T) {
	t.Parallel()
	e, ok := parseDevice([]byte("bind@/devices/pci0000:00/0000:00:02.0/0000:01:10.0\x00ACTION=bind\x00SUBSYSTEM=pci\x00DRIVER=igbvf\x00SEQNUM=7\x00"))
	require.True(t, ok)
	assert.Equal(t, Device{
		Action: Bind, Subsystem: "pci", Path: "/devices/pci0000:00/0000:00:02.0/0000:01:10.0",
		Function: libsriov.Address{Bus: 1, Device: 0x10}, Driver: "igbvf", Number: 7,
	}, e)
	for _, bad := range []string{"", "libudev\x00\xfe\xed\xca\xfe", "add", "@/x", "add@", "add@x"} {
		_, ok := parseDevice([]byte(bad))
		assert.False(t, ok, "%q", bad)
	}
}

// FuzzParseDevice: an event has an action and a path, or is none.
func FuzzParseDevice(f *testing.F) {
	f.Add([]byte("add@/devices/pci0000:00/0000:01:10.0/net/eth3\x00SUBSYSTEM=net\x00INTERFACE=eth3\x00"))
	f.Add([]byte("@"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, ok := parseDevice(b); ok {
			require.NotEmpty(t, e.Action)
			require.Equal(t, byte('/'), e.Path[0])
		} else {
			require.Equal(t, Device{}, e)
		}
	})
}

func TestLinksOfOneNamespace(t *testing.T) {
	t.Parallel()
	ns := sriovtest.NewNetNS(t)
	links, err := OpenLinks(ns)
	require.NoError(t, err)
	defer links.Close()
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	require.NoError(t, err)
	defer h.Close()
	require.NoError(t, h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "v0"}, PeerName: "v1"}))
	require.Equal(t, Change, waitFor(t, links, "v0").Action)
	v1, err := h.LinkByName("v1")
	require.NoError(t, err)
	require.NoError(t, h.LinkDel(v1))
	gone := false
	for !gone {
		gone = waitFor(t, links, "v0").Action == Remove
	}
}

func waitFor(t *testing.T, links *Links, name string) Link {
	t.Helper()
	for {
		e, err := links.Next(t.Context())
		require.NoError(t, err)
		if e.Link.Name == name {
			return e
		}
	}
}

// A reader that falls behind is told so instead of missing events in silence.
func TestMissedEventsAreTold(t *testing.T) {
	t.Parallel()
	ns := sriovtest.NewNetNS(t)
	links, err := OpenLinks(ns)
	require.NoError(t, err)
	defer links.Close()
	raw, err := links.file.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		require.NoError(t, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1))
	}))
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	require.NoError(t, err)
	defer h.Close()
	for range 10 {
		require.NoError(t, h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "v0"}, PeerName: "v1"}))
		l, err := h.LinkByName("v0")
		require.NoError(t, err)
		require.NoError(t, h.LinkDel(l))
	}
	for {
		e, err := links.Next(t.Context())
		require.NoError(t, err)
		if e.Action == Missed {
			return
		}
	}
}

func TestNextEndsWithItsContext(t *testing.T) {
	t.Parallel()
	devices, err := OpenDevices()
	require.NoError(t, err)
	defer devices.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		for {
			if _, err := devices.Next(ctx); err != nil {
				done <- err
				return
			}
		}
	}()
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}
