// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/sriovkit/sriovkit/libsriov/vdpa"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// The VFs of a virtio NIC become vDPA devices of either type, change it, are what they
// were after an interruption, and end with the policy.
func TestNodeVDPA(t *testing.T) {
	_, made := sriovtest.VirtioVFs(t, 1)
	b := newBench(t)
	require.NoError(t, b.Host.SetNumVFs(t.Context(), made.Address, 0))
	address := made.Address.String()
	t.Cleanup(func() { require.NoError(t, b.Files.Disown(context.Background(), made.Address)) })
	policy := func(kind string) *v1.SriovNetworkNodePolicy {
		p := pol("p", "nics", address, "", 2, "")
		p.Spec.VdpaType = kind
		return p
	}
	is := func(kind, drivers string) {
		t.Helper()
		require.Equal(t, drivers, b.converged(address, policy(kind)))
		require.Equal(t, map[string]int{"nics": 2}, b.resources(policy(kind)))
		for _, vf := range b.pf(address).VFs {
			require.Equal(t, kind, vf.VdpaType)
			require.Equal(t, kind != "vhost", vf.Name != "", vf.Name)
		}
	}
	require.NoError(t, b.apply(policy("vhost")))
	is("vhost", "vp-vdpa vp-vdpa")
	devices, err := vdpa.Devices()
	require.NoError(t, err)
	require.Len(t, devices, 2)
	for _, d := range devices {
		v, err := b.Host.VDPA(d.Name)
		require.NoError(t, err)
		f, err := os.OpenFile(v.Node, os.O_RDWR, 0)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}

	t.Log("one is removed by hand, one was not finished")
	require.NoError(t, vdpa.Delete(devices[0].Name))
	require.NoError(t, b.apply(policy("vhost")))
	is("vhost", "vp-vdpa vp-vdpa")

	t.Log("of the other type, with the interface of the kernel's driver")
	require.NoError(t, b.apply(policy("virtio")))
	is("virtio", "vp-vdpa vp-vdpa")

	t.Log("interfaces again")
	require.NoError(t, b.apply(policy("")))
	is("", "virtio-pci virtio-pci")
	devices, err = vdpa.Devices()
	require.NoError(t, err)
	require.Empty(t, devices)

	t.Log("and without a policy")
	require.NoError(t, b.apply(policy("vhost")))
	require.NoError(t, b.apply())
	require.Zero(t, b.pf(address).NumVfs)
	devices, err = vdpa.Devices()
	require.NoError(t, err)
	require.Empty(t, devices)
}

// A vDPA device that somebody removes or binds to the other driver is restored on the event;
// a daemon that starts after a power cut creates all of them.
func TestNodeVDPAIsKept(t *testing.T) {
	_, made := sriovtest.VirtioVFs(t, 1)
	b := newBench(t)
	require.NoError(t, b.Host.SetNumVFs(t.Context(), made.Address, 0))
	address := made.Address.String()
	b.pfs = append(b.pfs, address)
	p := pol("p", "nics", address, "", 2, "")
	p.Spec.VdpaType = "vhost"
	t.Cleanup(func() { require.NoError(t, b.Files.Disown(context.Background(), made.Address)) })
	b.run(p)
	kept := func() bool {
		found, err := Discover(b.Host)
		at := slices.IndexFunc(found.Interfaces, func(i v1.InterfaceExt) bool { return i.PciAddress == address })
		if err != nil || at < 0 { // in the middle of a change
			return false
		}
		vfs := found.Interfaces[at].VFs
		return len(vfs) == 2 && vfs[0].VdpaType == "vhost" && vfs[1].VdpaType == "vhost"
	}
	require.Eventually(t, kept, patience, 50*time.Millisecond)
	name := func() string {
		devices, err := vdpa.Devices()
		require.NoError(t, err)
		require.NotEmpty(t, devices)
		return devices[0].Name
	}
	require.NoError(t, vdpa.Delete(name()))
	require.Eventually(t, kept, patience, 50*time.Millisecond)
	require.NoError(t, vdpa.Bind(name(), "virtio_vdpa"))
	require.Eventually(t, kept, patience, 50*time.Millisecond)
	require.NoError(t, b.Host.SetNumVFs(t.Context(), made.Address, 0))
	require.Eventually(t, kept, patience, 50*time.Millisecond)
}

// That igb VFs have no vDPA devices is reported; other PFs of the node are configured.
func TestNodeVDPAOfAnotherNIC(t *testing.T) {
	b := newBench(t)
	p := pol("p", "nics", b.pfs[0], "", 1, "")
	p.Spec.VdpaType = "vhost"
	require.ErrorContains(t, b.apply(p), "the driver igbvf of")
	require.Empty(t, b.resources(p)["nics"])

	t.Log("which is seen before pods are sent away for it")
	vf := b.pf(b.pfs[0]).VFs[0].PciAddress
	work := plan.Work{PF: b.pfs[0], Steps: []plan.Step{{Op: plan.OpVDPA, Mode: "vhost", Disturbs: []string{vf}}}}
	require.ErrorContains(t, b.checkFeasible(t.Context(), work), "the driver igbvf of "+vf)
	work.Steps = append(work.Steps, plan.Step{Op: plan.OpCreate, Num: 1})
	require.NoError(t, b.checkFeasible(t.Context(), work), "of VFs that are not there yet")

	t.Log("a VF without a driver gets the kernel's first")
	address, err := libsriov.ParseAddress(vf)
	require.NoError(t, err)
	require.NoError(t, b.Host.Unbind(t.Context(), address))
	require.ErrorContains(t, b.apply(p), "the driver igbvf of")
}
