// SPDX-License-Identifier: Apache-2.0

//go:build linux

package libsriov_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

// A port whose PF and VFs have one device ID and one driver, with interfaces below
// virtio devices.
func TestNodeVirtioDiscovery(t *testing.T) {
	h, pf := sriovtest.VirtioVFs(t, 3)
	s, err := h.Snapshot()
	require.NoError(t, err)
	assert.Equal(t, 7, pf.TotalVFs)
	require.Len(t, pf.Netdevs, 1)
	assert.Contains(t, s.PFs, pf, "a lookup and a snapshot agree")
	for i, vf := range pf.VFs {
		assert.Equal(t, i, vf.Index)
		assert.Equal(t, pf.Address, vf.PF)
		assert.Equal(t, pf.Device, vf.Device)
		assert.Equal(t, "virtio-pci", vf.Driver)
		require.Len(t, vf.Netdevs, 1)
		kind, err := h.LinkType(vf.Netdevs[0])
		require.NoError(t, err)
		assert.Equal(t, libsriov.LinkEther, kind)
		one, err := h.VF(vf.Address)
		require.NoError(t, err)
		assert.Equal(t, vf, one)
	}
	vf := pf.VFs[0].Address
	require.NoError(t, h.BindDriver(t.Context(), vf, "vfio-pci"))
	driver, err := h.Driver(vf)
	require.NoError(t, err)
	assert.Equal(t, "vfio-pci", driver)
	require.NoError(t, h.SetNumVFs(t.Context(), pf.Address, 0))
	_, err = h.VF(vf)
	assert.ErrorIs(t, err, libsriov.ErrNoDevice)
}
