// SPDX-License-Identifier: Apache-2.0

//go:build linux

package link_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

// The interface of a virtio function names a virtio device as its parent, and is found
// by the function all the same, also in another namespace.
func TestNodeVirtioByParent(t *testing.T) {
	_, pf := sriovtest.VirtioVFs(t, 2)
	c, err := link.Open(nil)
	require.NoError(t, err)
	defer c.Close()
	for _, f := range []libsriov.Function{pf.Function, pf.VFs[0].Function, pf.VFs[1].Function} {
		require.Len(t, f.Netdevs, 1)
		l, err := c.ByParent(f.Address)
		require.NoError(t, err)
		assert.Equal(t, f.Netdevs[0], l.Name)
	}
	l, err := c.ByParent(pf.Address)
	require.NoError(t, err)
	_, err = c.VFState(l.Index, 0)
	require.ErrorIs(t, err, link.ErrNoVF, "its driver knows no settings of VFs")

	out, err := exec.Command("ip", "netns", "add", "virtio-away").CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", "virtio-away").Run() })
	away := pf.VFs[1].Netdevs[0]
	out, err = exec.Command("ip", "link", "set", away, "netns", "virtio-away").CombinedOutput()
	require.NoError(t, err, "%s", out)
	_, err = c.ByParent(pf.VFs[1].Address)
	require.ErrorIs(t, err, link.ErrNotFound)
	ns, l, err := link.Find("/", pf.VFs[1].Address)
	require.NoError(t, err)
	assert.Equal(t, away, l.Name)
	want, err := os.Stat("/run/netns/virtio-away")
	require.NoError(t, err)
	got, err := ns.Stat()
	require.NoError(t, err)
	assert.True(t, os.SameFile(want, got))
	require.NoError(t, ns.Close())
}
