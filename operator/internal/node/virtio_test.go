// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

// A NIC whose PF driver knows no settings of VFs, whose PF and VFs have one device ID and
// one driver, and whose interfaces hang below virtio devices.
func TestNodeVirtio(t *testing.T) {
	_, made := sriovtest.VirtioVFs(t, 1)
	b := newBench(t)
	require.NoError(t, b.Host.SetNumVFs(t.Context(), made.Address, 0))
	address := made.Address.String()
	t.Cleanup(func() { require.NoError(t, b.Files.Disown(context.Background(), made.Address)) })
	pf := b.pf(address)
	require.Equal(t, "1af4", pf.Vendor)
	require.Equal(t, "1041", pf.DeviceID)
	require.Equal(t, "virtio-pci", pf.Driver)
	require.Equal(t, 7, pf.TotalVfs)
	require.Equal(t, "ETH", pf.LinkType)
	require.NotEmpty(t, pf.Name)
	require.NotEmpty(t, pf.Mac)

	t.Log("by vendor and device ID, as interfaces")
	p := pol("p", "nics", address, "", 3, "")
	p.Spec.NicSelector.RootDevices, p.Spec.NicSelector.Vendor, p.Spec.NicSelector.DeviceID = nil, "1af4", "1041"
	require.NoError(t, b.apply(p))
	require.Equal(t, "virtio-pci virtio-pci virtio-pci", b.converged(address, p))
	require.Equal(t, map[string]int{"nics": 3}, b.resources(p))
	for _, vf := range b.pf(address).VFs {
		require.NotEmpty(t, vf.Name)
		require.NotEmpty(t, vf.Mac)
	}

	t.Log("for userspace")
	p.Spec.DeviceType = "vfio-pci"
	require.NoError(t, b.apply(p))
	require.Equal(t, "vfio-pci vfio-pci vfio-pci", b.converged(address, p))
	require.NoError(t, b.apply())
	require.Zero(t, b.pf(address).NumVfs)
}
