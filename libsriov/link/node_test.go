// SPDX-License-Identifier: Apache-2.0

//go:build linux

package link_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
)

// node is a PF of the emulated node with VFs, and a connection beside it.
type node struct {
	*link.Conn
	host *libsriov.Host
	pf   libsriov.PF
	link link.Link // of the PF
}

func newNode(t *testing.T, vfs int) node {
	t.Helper()
	h, pf := sriovtest.NodeVFs(t, vfs)
	c, err := link.Open(nil)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	l, err := c.ByParent(pf.Address)
	require.NoError(t, err)
	return node{c, h, pf, l}
}

func TestNodeVFState(t *testing.T) {
	n := newNode(t, 2)
	before, err := n.VFState(n.link.Index, 1)
	require.NoError(t, err)
	want := vfstate.State{
		MAC:        net.HardwareAddr{2, 0, 0, 0, 0, 0x11},
		VLAN:       &vfstate.VLAN{ID: 100, QoS: 3, Proto: vfstate.Proto8021Q},
		Rate:       &vfstate.Rate{Max: 100},
		SpoofCheck: vfstate.Off, Trust: vfstate.On,
	}
	requests := n.Requests()
	require.NoError(t, n.SetVF(n.link.Index, 1, vfstate.Diff(before, want)))
	assert.Equal(t, 1, n.Requests()-requests, "five attributes")
	after, err := n.VFState(n.link.Index, 1)
	require.NoError(t, err)
	assert.Empty(t, vfstate.Diff(after, want))

	requests = n.Requests()
	require.NoError(t, n.SetVF(n.link.Index, 1, vfstate.State{Trust: vfstate.Off}))
	assert.Equal(t, 1, n.Requests()-requests, "one attribute")
	require.NoError(t, n.SetVF(n.link.Index, 1, vfstate.State{}))
	assert.Equal(t, 1, n.Requests()-requests, "none")

	// And back, all that can be told of it.
	require.NoError(t, n.SetVF(n.link.Index, 1, vfstate.Diff(after, before)))
	again, err := n.VFState(n.link.Index, 1)
	require.NoError(t, err)
	assert.Equal(t, before, again)
	other, err := n.VFState(n.link.Index, 0)
	require.NoError(t, err)
	assert.NotEqual(t, want.MAC, other.MAC)
	_, err = n.VFState(n.link.Index, 2)
	assert.ErrorIs(t, err, link.ErrNoVF)
}

// What igb cannot do is refused by name, with the errno, and what stands before
// it in the order of Split is written.
func TestNodeUnsupportedAttributesAreNamed(t *testing.T) {
	n := newNode(t, 1)
	for name, tc := range map[string]struct {
		state vfstate.State
		attr  string
		errno error
	}{
		"802.1ad":         {vfstate.State{VLAN: &vfstate.VLAN{ID: 5, Proto: vfstate.Proto8021AD}}, vfstate.AttrVLAN, unix.EPROTONOSUPPORT},
		"minimum rate":    {vfstate.State{Rate: &vfstate.Rate{Min: 10, Max: 100}}, vfstate.AttrRate, unix.EINVAL},
		"above the link":  {vfstate.State{Rate: &vfstate.Rate{Max: 100000}}, vfstate.AttrRate, unix.EINVAL},
		"link state":      {vfstate.State{LinkState: vfstate.LinkEnable}, vfstate.AttrLinkState, unix.EOPNOTSUPP},
		"query_rss":       {vfstate.State{QueryRSS: vfstate.On}, vfstate.AttrQueryRSS, unix.EOPNOTSUPP},
		"node GUID":       {vfstate.State{NodeGUID: new(vfstate.GUID(1))}, vfstate.AttrNodeGUID, unix.EOPNOTSUPP},
		"multicast MAC":   {vfstate.State{MAC: net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}}, vfstate.AttrMAC, unix.EINVAL},
		"impossible VLAN": {vfstate.State{VLAN: &vfstate.VLAN{ID: 4096}}, vfstate.AttrVLAN, unix.EINVAL},
	} {
		t.Run(name, func(t *testing.T) {
			var refused *link.AttributeError
			err := n.SetVF(n.link.Index, 0, tc.state)
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, tc.attr, refused.Attr)
			assert.ErrorIs(t, err, tc.errno)
			t.Log(err)
		})
	}
	err := n.SetVF(n.link.Index, 0, vfstate.State{VLAN: &vfstate.VLAN{ID: 7}, LinkState: vfstate.LinkDisable, Trust: vfstate.On})
	var refused *link.AttributeError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, vfstate.AttrLinkState, refused.Attr)
	got, err := n.VFState(n.link.Index, 0)
	require.NoError(t, err)
	assert.EqualValues(t, 7, got.VLAN.ID)
	assert.Equal(t, vfstate.Off, got.Trust)
	assert.ErrorIs(t, n.SetVF(n.link.Index, 5, vfstate.State{Trust: vfstate.On}), unix.EINVAL)
}

func TestNodeMoveAndFind(t *testing.T) {
	n := newNode(t, 1)
	vf := n.pf.VFs[0].Address
	was, err := n.ByParent(vf)
	require.NoError(t, err)
	home, err := os.Open("/proc/self/ns/net")
	require.NoError(t, err)
	defer home.Close()

	pod := newHost(t)
	pod.veth(t, "net1") // in the way
	err = n.Move(was, home, pod.Conn, link.Update{NetNS: pod.ns, Name: "net1"})
	require.ErrorIs(t, err, unix.EEXIST)
	back, err := n.ByParent(vf)
	require.NoError(t, err)
	assert.Equal(t, was, back)

	requests := n.Requests()
	err = n.Move(was, home, pod.Conn, link.Update{NetNS: pod.ns, Name: "net2", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, MTU: 1400})
	require.NoError(t, err)
	assert.Equal(t, 1, n.Requests()-requests)
	moved, err := pod.ByParent(vf)
	require.NoError(t, err)
	assert.Equal(t, "net2", moved.Name)
	assert.Equal(t, 1400, moved.MTU)
	_, err = n.ByParent(vf)
	require.ErrorIs(t, err, link.ErrNotFound)

	// From outside, by device: wherever it is.
	held := holdNamespace(t, pod.ns)
	ns, found, err := link.Find("/", vf)
	require.NoError(t, err)
	defer ns.Close()
	assert.Equal(t, moved.Name, found.Name)
	held()

	err = pod.Move(moved, pod.ns, n.Conn, link.Update{NetNS: home, NewIndex: was.Index, Name: was.Name, MAC: was.MAC, MTU: was.MTU})
	require.NoError(t, err)
	now, err := n.ByParent(vf)
	require.NoError(t, err)
	assert.Equal(t, was, now)
	_, _, err = link.Find("/", libsriov.Address{Bus: 0xff})
	assert.ErrorIs(t, err, link.ErrNotFound)
}

// holdNamespace gives a namespace a name for as long as the test wants.
func holdNamespace(t *testing.T, ns *os.File) (release func()) {
	t.Helper()
	require.NoError(t, os.MkdirAll("/run/netns", 0o755))
	path := "/run/netns/held"
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, unix.Mount("/proc/self/fd/"+strconv.Itoa(int(ns.Fd())), path, "", unix.MS_BIND, ""))
	return func() {
		require.NoError(t, unix.Unmount(path, unix.MNT_DETACH))
		require.NoError(t, os.Remove(path))
	}
}

// simulated makes a netdevsim device with VFs and returns its interface.
func simulated(t *testing.T, c *link.Conn, vfs int) link.Link {
	t.Helper()
	require.NoError(t, os.WriteFile("/sys/bus/netdevsim/new_device", []byte("77 1"), 0))
	t.Cleanup(func() { require.NoError(t, os.WriteFile("/sys/bus/netdevsim/del_device", []byte("77"), 0)) })
	require.NoError(t, os.WriteFile("/sys/bus/netdevsim/devices/netdevsim77/sriov_numvfs", []byte(strconv.Itoa(vfs)), 0))
	links, err := c.All()
	require.NoError(t, err)
	for _, l := range links {
		if l.Parent == "netdevsim77" {
			return l
		}
	}
	t.Fatal("netdevsim made no interface")
	return link.Link{}
}

// What igb lacks, netdevsim has.
func TestNodeSimulatedVFState(t *testing.T) {
	sriovtest.NeedNode(t)
	c, err := link.Open(nil)
	require.NoError(t, err)
	defer c.Close()
	l := simulated(t, c, 4)
	want := vfstate.State{
		VLAN:      &vfstate.VLAN{ID: 5, QoS: 1, Proto: vfstate.Proto8021AD},
		Rate:      &vfstate.Rate{Min: 10, Max: 100},
		LinkState: vfstate.LinkDisable, QueryRSS: vfstate.On, SpoofCheck: vfstate.On, Trust: vfstate.On,
	}
	require.NoError(t, c.SetVF(l.Index, 3, want))
	got, err := c.VFState(l.Index, 3)
	require.NoError(t, err)
	assert.Empty(t, vfstate.Diff(got, want))
}

// The kernel's answer for 256 VFs is larger than any fixed buffer of old.
func TestNode256VFs(t *testing.T) {
	sriovtest.NeedNode(t)
	c, err := link.Open(nil)
	require.NoError(t, err)
	defer c.Close()
	l := simulated(t, c, 256)
	last := vfstate.State{MAC: net.HardwareAddr{2, 0, 0, 0, 1, 0}}
	require.NoError(t, c.SetVF(l.Index, 255, last))
	states, err := c.VFStates(l.Index)
	require.NoError(t, err)
	require.Len(t, states, 256)
	assert.Equal(t, last.MAC, states[255].MAC)
}

// A PF that goes away between two calls is an error, not a surprise.
func TestNodePFIsGone(t *testing.T) {
	n := newNode(t, 1)
	require.NoError(t, os.WriteFile("/sys/bus/pci/devices/"+n.pf.Address.String()+"/remove", []byte("1"), 0))
	t.Cleanup(func() {
		require.NoError(t, os.WriteFile("/sys/bus/pci/rescan", []byte("1"), 0))
		_, err := n.host.Driver(n.pf.Address)
		require.NoError(t, err)
	})
	_, err := n.VFState(n.link.Index, 0)
	assert.ErrorIs(t, err, link.ErrNotFound)
	assert.ErrorIs(t, n.SetVF(n.link.Index, 0, vfstate.State{Trust: vfstate.On}), unix.ENODEV)
	assert.True(t, errors.Is(n.host.SetNumVFs(context.Background(), n.pf.Address, 0), libsriov.ErrNoDevice))
}
