// SPDX-License-Identifier: Apache-2.0

// Package sriovtest helps tests of code that stands on libsriov: host trees to
// read, captured from real machines or generated; a Host whose writes a test
// may refuse; the PFs of the emulated node, and a way to say that a test needs
// it.
package sriovtest

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
)

// NeedNode skips a test outside the emulated node, where its igb, igbvf, vfio,
// netdevsim and vdpa_sim drivers are.
func NeedNode(t testing.TB) {
	t.Helper()
	if os.Getenv("SRIOVKIT_NODE") == "" {
		t.Skip("needs the emulated node: run it with make test-node")
	}
}

func nodeSnapshot(t testing.TB) (*libsriov.Host, libsriov.Snapshot) {
	t.Helper()
	NeedNode(t)
	h, err := libsriov.Open("/")
	require.NoError(t, err)
	s, err := h.Snapshot()
	require.NoError(t, err)
	return h, s
}

// NodePFs are the emulated node's PFs with the igb driver, by address, each set
// up, as igb wants it before it has VFs, and without VFs when the test ends.
func NodePFs(t testing.TB) (*libsriov.Host, []libsriov.PF) {
	t.Helper()
	h, s := nodeSnapshot(t)
	c, err := link.Open(nil)
	require.NoError(t, err)
	defer c.Close()
	var pfs []libsriov.PF
	for _, pf := range s.PFs {
		if pf.Driver != "igb" {
			continue
		}
		l, err := c.ByParent(pf.Address)
		require.NoError(t, err)
		require.NoError(t, c.Set(l.Index, link.Update{Up: new(true)}))
		t.Cleanup(func() {
			require.NoError(t, h.SetNumVFs(context.WithoutCancel(t.Context()), pf.Address, 0))
		})
		pfs = append(pfs, pf)
	}
	require.NotEmpty(t, pfs)
	return h, pfs
}

// AwaitCarrier waits until the interface of a device has its link.
func AwaitCarrier(t testing.TB, device libsriov.Address) {
	t.Helper()
	changes, done := make(chan netlink.LinkUpdate), make(chan struct{})
	defer close(done)
	require.NoError(t, netlink.LinkSubscribe(changes, done))
	c, err := link.Open(nil)
	require.NoError(t, err)
	defer c.Close()
	for {
		l, err := c.ByParent(device)
		require.NoError(t, err)
		if l.Carrier() {
			return
		}
		select {
		case <-changes:
		case <-t.Context().Done():
			t.Fatalf("%s of %s has no carrier", l.Name, device)
		}
	}
}

// NodeVFs is the emulated node's first PF with n VFs, which are removed when the
// test ends. It has its carrier back, which igb drops when it makes VFs and
// wants before it accepts a rate.
func NodeVFs(t testing.TB, n int) (*libsriov.Host, libsriov.PF) {
	t.Helper()
	h, pfs := NodePFs(t)
	require.NoError(t, h.SetNumVFs(t.Context(), pfs[0].Address, n))
	AwaitCarrier(t, pfs[0].Address)
	pf, err := h.PF(pfs[0].Address)
	require.NoError(t, err)
	require.Len(t, pf.VFs, n)
	return h, pf
}

// VirtioVFs is the emulated node's port of the other kind, with n VFs, which are removed
// when the test ends: PF and VFs have the driver virtio-pci and one device ID, their
// interfaces hang below virtio devices, and the PF knows no settings of VFs.
func VirtioVFs(t testing.TB, n int) (*libsriov.Host, libsriov.PF) {
	t.Helper()
	h, s := nodeSnapshot(t)
	for _, pf := range s.PFs {
		if pf.Driver != "virtio-pci" {
			continue
		}
		t.Cleanup(func() {
			require.NoError(t, h.SetNumVFs(context.WithoutCancel(t.Context()), pf.Address, 0))
		})
		require.NoError(t, h.SetNumVFs(t.Context(), pf.Address, 0)) // a suite may make VFs for all of its tests
		require.NoError(t, h.SetNumVFs(t.Context(), pf.Address, n))
		made, err := h.PF(pf.Address)
		require.NoError(t, err)
		require.Len(t, made.VFs, n)
		return h, made
	}
	t.Fatal("no SR-IOV port of virtio: does the suite's node have VirtioPFs, in e2e/node/suite.go?")
	return nil, libsriov.PF{}
}
