// SPDX-License-Identifier: Apache-2.0

//go:build linux

package link_test

import (
	"os"
	"testing"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// The number of a namespace is the one that interfaces which stand on one there have.
func TestNSID(t *testing.T) {
	t.Parallel()
	a, b := sriovtest.NewNetNS(t), sriovtest.NewNetNS(t)
	c, err := link.Open(a)
	require.NoError(t, err)
	defer c.Close()
	_, ok, err := c.NSID(b)
	require.NoError(t, err)
	require.False(t, ok, "nothing of one is in the other")

	h, err := netlink.NewHandleAt(netns.NsHandle(a.Fd()), 0)
	require.NoError(t, err)
	defer h.Close()
	require.NoError(t, h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "here"}, PeerName: "there", PeerNamespace: netlink.NsFd(b.Fd())}))
	l, err := c.ByName("here")
	require.NoError(t, err)
	require.NotNil(t, l.NetNSID)
	id, ok, err := c.NSID(b)
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, *l.NetNSID, id)

	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer f.Close()
	_, _, err = c.NSID(f)
	assert.ErrorContains(t, err, os.DevNull)
}
