// SPDX-License-Identifier: Apache-2.0

//go:build linux

package libsriov_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/event"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

func TestNodeVFsComeAndGo(t *testing.T) {
	h, pf := sriovtest.NodeVFs(t, 3)
	assert.Equal(t, 7, pf.TotalVFs)
	s, err := h.Snapshot()
	require.NoError(t, err)
	for _, p := range s.PFs {
		if p.Address == pf.Address {
			assert.Equal(t, pf, p, "a lookup and a snapshot agree")
		}
	}
	for i, vf := range pf.VFs {
		assert.Equal(t, i, vf.Index)
		assert.Equal(t, pf.Address, vf.PF)
		assert.Equal(t, "igbvf", vf.Driver)
		assert.Equal(t, libsriov.ID(0x10ca), vf.Device)
		assert.Len(t, vf.Netdevs, 1)
		one, err := h.VF(vf.Address)
		require.NoError(t, err)
		assert.Equal(t, vf, one)
		_, ok, err := h.IOMMUGroup(vf.Address)
		require.NoError(t, err)
		assert.True(t, ok)
	}
	assert.ErrorIs(t, h.SetNumVFs(t.Context(), pf.Address, 2), libsriov.ErrVFsInUse)
	require.NoError(t, h.SetNumVFs(t.Context(), pf.Address, 0))
	assert.ErrorIs(t, h.SetNumVFs(t.Context(), pf.Address, 8), libsriov.ErrTooManyVFs)
	_, err = h.VF(pf.VFs[0].Address)
	assert.ErrorIs(t, err, libsriov.ErrNoDevice)
	_, err = h.VF(pf.Address)
	assert.ErrorIs(t, err, libsriov.ErrNotVF)
}

func TestNodeAutoprobeOff(t *testing.T) {
	h, pfs := sriovtest.NodePFs(t)
	pf := pfs[0].Address
	require.NoError(t, h.SetAutoprobe(t.Context(), pf, false))
	defer func() { require.NoError(t, h.SetAutoprobe(t.Context(), pf, true)) }()
	require.NoError(t, h.SetNumVFs(t.Context(), pf, 1))
	got, err := h.PF(pf)
	require.NoError(t, err)
	require.Len(t, got.VFs, 1)
	vf := got.VFs[0]
	assert.Empty(t, vf.Driver)
	require.NoError(t, h.BindDriver(t.Context(), vf.Address, "vfio-pci"))
	driver, err := h.Driver(vf.Address)
	require.NoError(t, err)
	assert.Equal(t, "vfio-pci", driver)
}

func TestNodeDrivers(t *testing.T) {
	h, pf := sriovtest.NodeVFs(t, 1)
	vf := pf.VFs[0].Address
	driver := func() string {
		t.Helper()
		d, err := h.Driver(vf)
		require.NoError(t, err)
		return d
	}
	require.NoError(t, h.BindDriver(t.Context(), vf, "vfio-pci"))
	require.Equal(t, "vfio-pci", driver())
	require.NoError(t, h.BindDriver(t.Context(), vf, "vfio-pci"), "again")
	node, err := h.VFIONode(vf)
	require.NoError(t, err)
	st, err := os.Stat(node.Host)
	require.NoError(t, err)
	assert.NotZero(t, st.Mode()&os.ModeCharDevice)
	got, err := h.VF(vf)
	require.NoError(t, err)
	assert.Empty(t, got.Netdevs)

	require.NoError(t, h.ResetDriver(t.Context(), vf))
	require.Equal(t, "igbvf", driver())
	got, err = h.VF(vf)
	require.NoError(t, err)
	assert.Len(t, got.Netdevs, 1)

	// virtio-pci has its own table of devices, but an override makes it try; it
	// gives up on what is no virtio device, and the VF must come back.
	err = h.BindDriver(t.Context(), vf, "virtio-pci")
	require.ErrorIs(t, err, libsriov.ErrNoDriver)
	t.Log(err)
	require.Equal(t, "igbvf", driver())
	assert.ErrorContains(t, h.BindDriver(t.Context(), vf, "no-such-driver"), "modprobe no-such-driver")

	require.NoError(t, h.Unbind(t.Context(), vf))
	require.Empty(t, driver())
	require.NoError(t, h.Unbind(t.Context(), vf), "again")
	require.NoError(t, h.BindDriver(t.Context(), vf, "igbvf"))
	require.Equal(t, "igbvf", driver())
}

func TestNodePFVanishesAndReturns(t *testing.T) {
	h, pfs := sriovtest.NodePFs(t)
	require.GreaterOrEqual(t, len(pfs), 2)
	gone := pfs[1].Address
	devices, err := event.OpenDevices()
	require.NoError(t, err)
	defer devices.Close()
	await := func(action event.Action) {
		t.Helper()
		for {
			e, err := devices.Next(t.Context())
			require.NoError(t, err)
			if e.Subsystem == "pci" && e.Function == gone && e.Action == action {
				return
			}
		}
	}
	require.NoError(t, os.WriteFile("/sys/bus/pci/devices/"+gone.String()+"/remove", []byte("1"), 0))
	await(event.Remove)
	_, err = h.PF(gone)
	require.ErrorIs(t, err, libsriov.ErrNoDevice)
	_, err = h.NumVFs(gone)
	require.ErrorIs(t, err, libsriov.ErrNoDevice)
	s, err := h.Snapshot()
	require.NoError(t, err)
	for _, pf := range s.PFs {
		assert.NotEqual(t, gone, pf.Address)
	}
	require.NoError(t, os.WriteFile("/sys/bus/pci/rescan", []byte("1"), 0))
	await(event.Bind)
	pf, err := h.PF(gone)
	require.NoError(t, err)
	assert.Equal(t, "igb", pf.Driver)
}
