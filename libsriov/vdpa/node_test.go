// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vdpa_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/sriovkit/sriovkit/libsriov/vdpa"
)

func TestNodeVDPA(t *testing.T) {
	sriovtest.NeedNode(t)
	parents, err := vdpa.Parents()
	require.NoError(t, err)
	simulator := vdpa.Parent{Name: "vdpasim_net"}
	require.Contains(t, parents, simulator)
	h, err := libsriov.Open("/")
	require.NoError(t, err)

	require.NoError(t, vdpa.Add("test0", simulator))
	v, err := h.VDPA("test0")
	require.NoError(t, err)
	switch v.Driver {
	case libsriov.VDPAVhost:
		assert.FileExists(t, v.Node)
	case libsriov.VDPAVirtio:
		assert.NotEmpty(t, v.Netdev)
	default:
		t.Errorf("driver %q", v.Driver)
	}
	devices, err := vdpa.Devices()
	require.NoError(t, err)
	assert.Contains(t, devices, vdpa.Device{Name: "test0", Parent: simulator, Driver: v.Driver})
	require.Error(t, vdpa.Add("test0", simulator), "the name is taken")
	require.NoError(t, vdpa.Delete("test0"))
	_, err = h.VDPA("test0")
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, vdpa.Delete("test0"), "delete vDPA device test0")
}

// TestNodeVirtioVFIsVDPA makes a VF a vDPA device, an interface and a character device
// of that, and a VF with its driver again.
func TestNodeVirtioVFIsVDPA(t *testing.T) {
	h, pf := sriovtest.VirtioVFs(t, 2)
	vf := pf.VFs[0].Address
	require.NoError(t, h.BindDriver(t.Context(), vf, "vp-vdpa"))
	parents, err := vdpa.Parents()
	require.NoError(t, err)
	require.Contains(t, parents, vdpa.Of(vf))
	require.NoError(t, vdpa.Add("test1", vdpa.Of(vf)))
	require.ErrorIs(t, vdpa.Add("test2", vdpa.Of(vf)), vdpa.ErrExists)

	for _, driver := range []string{libsriov.VDPAVirtio, libsriov.VDPAVhost, libsriov.VDPAVirtio} {
		require.NoError(t, vdpa.Bind("test1", driver))
		require.NoError(t, vdpa.Bind("test1", driver), "it is bound already")
		v, err := h.VDPA("test1")
		require.NoError(t, err)
		assert.Equal(t, driver, v.Driver)
		f, err := h.Function(vf)
		require.NoError(t, err)
		assert.Equal(t, []string{"test1"}, f.VDPA)
		if driver == libsriov.VDPAVirtio {
			require.NotEmpty(t, v.Netdev)
			assert.Equal(t, []string{v.Netdev}, f.Netdevs)
			assert.Empty(t, v.Node)
		} else {
			require.FileExists(t, v.Node)
			open, err := os.OpenFile(v.Node, os.O_RDWR, 0)
			require.NoError(t, err)
			require.NoError(t, open.Close())
			assert.Empty(t, v.Netdev)
			assert.Empty(t, f.Netdevs)
		}
	}
	require.ErrorContains(t, vdpa.Bind("test1", "no_driver"), "modprobe no_driver")
	require.ErrorContains(t, vdpa.Bind("../test1", libsriov.VDPAVhost), "is not the name of a device")
	require.Error(t, vdpa.Bind("test9", libsriov.VDPAVhost))

	require.NoError(t, h.ResetDriver(t.Context(), vf))
	_, err = h.VDPA("test1")
	require.ErrorIs(t, err, os.ErrNotExist, "it goes with the VF's driver")
	f, err := h.Function(vf)
	require.NoError(t, err)
	assert.Equal(t, "virtio-pci", f.Driver)
	assert.Len(t, f.Netdevs, 1)
}
