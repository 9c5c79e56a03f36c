// SPDX-License-Identifier: Apache-2.0

//go:build linux

package link_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

// host is a namespace with a veth pair and a connection in it.
type host struct {
	*link.Conn
	ns     *os.File
	handle *netlink.Handle
}

func newHost(t *testing.T) host {
	t.Helper()
	ns := sriovtest.NewNetNS(t)
	c, err := link.Open(ns)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	require.NoError(t, err)
	t.Cleanup(h.Close)
	return host{c, ns, h}
}

func (h host) veth(t *testing.T, name string) link.Link {
	t.Helper()
	require.NoError(t, h.handle.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}))
	l, err := h.ByName(name)
	require.NoError(t, err)
	return l
}

func TestLookups(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	v := h.veth(t, "v0")
	assert.Equal(t, "veth", v.Kind)
	assert.Equal(t, 1500, v.MTU)
	assert.False(t, v.Up())
	peer, err := h.ByName("v0p")
	require.NoError(t, err)
	assert.Equal(t, peer.Index, v.Lower)

	require.NoError(t, h.AddAltName(v.Index, "an-alternative-name-of-more-than-15-bytes"))
	v, err = h.ByName("an-alternative-name-of-more-than-15-bytes")
	require.NoError(t, err)
	assert.Equal(t, []string{"an-alternative-name-of-more-than-15-bytes"}, v.AltNames)
	require.NoError(t, h.DeleteAltName(v.Index, v.AltNames[0]))

	byIndex, err := h.ByIndex(v.Index)
	require.NoError(t, err)
	assert.Empty(t, byIndex.AltNames)

	all, err := h.All()
	require.NoError(t, err)
	assert.Len(t, all, 3) // with lo

	_, err = h.ByIndex(4711)
	assert.ErrorIs(t, err, link.ErrNotFound)
	_, err = h.ByName("nothing")
	assert.ErrorIs(t, err, unix.ENODEV)
	_, err = h.VFState(v.Index, 0)
	assert.ErrorIs(t, err, link.ErrNoVF)
}

func TestMoveTakesOneRequest(t *testing.T) {
	t.Parallel()
	from, to := newHost(t), newHost(t)
	v := from.veth(t, "v0")
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 7}
	before, beforeThere := from.Requests(), to.Requests()
	require.NoError(t, from.Move(v, from.ns, to.Conn, link.Update{NetNS: to.ns, Name: "net1", MAC: mac, MTU: 1400, Up: new(true)}))
	assert.Equal(t, 1, from.Requests()-before)
	assert.Zero(t, to.Requests()-beforeThere)
	moved, err := to.ByName("net1")
	require.NoError(t, err)
	assert.Equal(t, "net1", moved.Name)
	assert.Equal(t, mac, moved.MAC)
	assert.Equal(t, 1400, moved.MTU)
	assert.True(t, moved.Up())
	_, err = from.ByIndex(v.Index)
	assert.ErrorIs(t, err, link.ErrNotFound)
}

func TestMoveIsTakenBackWhenALaterPartFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		taken  []string // names in the target namespace
		update link.Update
		errno  error
	}{
		"new name taken":             {taken: []string{"net1"}, update: link.Update{Name: "net1"}, errno: unix.EEXIST},
		"old and new name taken":     {taken: []string{"v0", "net1"}, update: link.Update{Name: "net1"}, errno: unix.EEXIST},
		"old name taken, no new one": {taken: []string{"v0"}, errno: unix.EEXIST},
		"impossible MTU":             {update: link.Update{Name: "net1", MTU: 1 << 24}, errno: unix.EINVAL},
		"impossible MAC":             {update: link.Update{Name: "net1", MAC: net.HardwareAddr{1, 0, 0, 0, 0, 0}}, errno: unix.EADDRNOTAVAIL},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := newHost(t), newHost(t)
			v := from.veth(t, "v0")
			require.NoError(t, from.Set(v.Index, link.Update{Up: new(true)}))
			v, err := from.ByIndex(v.Index)
			require.NoError(t, err)
			for _, taken := range tc.taken {
				to.veth(t, taken)
			}
			there, err := to.All()
			require.NoError(t, err)

			tc.update.NetNS = to.ns
			err = from.Move(v, from.ns, to.Conn, tc.update)
			require.ErrorIs(t, err, tc.errno)
			t.Log(err)

			back, err := from.ByIndex(v.Index)
			require.NoError(t, err)
			assert.Equal(t, v.Name, back.Name)
			assert.Equal(t, v.MAC, back.MAC)
			assert.Equal(t, v.MTU, back.MTU)
			assert.True(t, back.Up())
			still, err := to.All()
			require.NoError(t, err)
			assert.Equal(t, there, still, "nothing of the target namespace was touched")
		})
	}
}

// A name that is only taken on arrival is no obstacle if the interface gets
// another one.
func TestMoveAroundATakenName(t *testing.T) {
	t.Parallel()
	from, to := newHost(t), newHost(t)
	to.veth(t, "v0")
	require.NoError(t, from.Move(from.veth(t, "v0"), from.ns, to.Conn, link.Update{NetNS: to.ns, Name: "net1"}))
	require.NoError(t, to.SetUp("net1", true))
	l, err := to.ByName("net1")
	require.NoError(t, err)
	assert.True(t, l.Up())
	require.ErrorIs(t, to.SetUp("net2", true), unix.ENODEV)
}

// The index is taken in the target namespace, so the kernel picks another.
func TestMoveChangesATakenIndex(t *testing.T) {
	t.Parallel()
	from, to := newHost(t), newHost(t)
	taken := to.veth(t, "other")
	v := from.veth(t, "v0")
	require.Equal(t, taken.Index, v.Index)
	require.NoError(t, from.Move(v, from.ns, to.Conn, link.Update{NetNS: to.ns, Name: "net1"}))
	moved, err := to.ByName("net1")
	require.NoError(t, err)
	assert.NotEqual(t, v.Index, moved.Index)
	l, err := to.ByIndex(taken.Index)
	require.NoError(t, err)
	assert.Equal(t, taken, l)
}

func TestSetNamesWhatItCouldNotSet(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	v := h.veth(t, "v0")
	err := h.Set(v.Index, link.Update{MTU: 10, Alias: new("a")})
	require.ErrorIs(t, err, unix.EINVAL)
	assert.ErrorContains(t, err, `mtu 10, alias "a"`)
	assert.ErrorContains(t, err, "kernel: mtu", "the extended acknowledgement")
	assert.ErrorIs(t, h.Set(4711, link.Update{MTU: 1400}), link.ErrNotFound)
}

func TestNamespacesListsEachOnce(t *testing.T) {
	t.Parallel()
	list, err := link.Namespaces("/")
	if !errors.Is(err, fs.ErrPermission) { // of processes in other containers; they are reported, the rest is there
		require.NoError(t, err)
	}
	require.NotEmpty(t, list)
	seen := map[string]bool{}
	for _, ns := range list {
		target, err := os.Readlink(ns.Path)
		if err != nil {
			continue // a bind mount, or the process has ended
		}
		assert.False(t, seen[target], "%s leads to %s again", ns.Path, target)
		seen[target] = true
	}
}
