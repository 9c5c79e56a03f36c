// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/rdma"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// A reboot resets VFs, MTU and drivers; files and spec remain. (It is imitated: a reboot of
// the emulated node would delete its files.)
func TestNodeAfterReboot(t *testing.T) {
	b := newBench(t)
	p := pol("p", "nics", b.pfs[0], "", 2, v1.DeviceTypeVFIO)
	p.Spec.Mtu = 2000
	reboot := func() {
		require.NoError(t, b.Host.SetNumVFs(t.Context(), b.addr(b.pfs[0]), 0))
		require.NoError(t, setLink(b.addr(b.pfs[0]), link.Update{Up: new(false), MTU: 1500}))
	}
	require.NoError(t, b.apply(p))
	reboot()
	spec, _ := b.spec(p)
	works, _, _ := b.work(spec)
	require.Empty(t, works[0].Disturbs(), "there is nobody to drain")
	require.NoError(t, b.apply(p))
	require.Equal(t, "vfio-pci vfio-pci", b.converged(b.pfs[0], p))
	require.Equal(t, 2000, b.pf(b.pfs[0]).Mtu)

	t.Log("the policy was deleted meanwhile")
	reboot()
	works, _, _ = b.work(v1.SriovNetworkNodeStateSpec{})
	require.Equal(t, []plan.Op{plan.OpDisown}, ops(works[0]))
	require.NoError(t, b.apply())
	owned, err := b.Files.Owned()
	require.NoError(t, err)
	require.Empty(t, owned)
	b.converged(b.pfs[0])
}

// insideVM is a host whose only PCI function is a VF that does not tell its PF, as in a
// virtual machine it was handed to. What is read and written is the kernel's own: the
// tree holds links to sysfs, and the one to the driver is renewed after each write.
func insideVM(t *testing.T, vf string) (host *libsriov.Host, root string) {
	t.Helper()
	root = t.TempDir()
	const devices = "sys/bus/pci/devices"
	device := filepath.Join(root, devices, vf)
	require.NoError(t, os.MkdirAll(device, 0o755))
	link := func(name string) error {
		target, err := filepath.EvalSymlinks(filepath.Join("/", name))
		if err != nil {
			return err
		}
		return os.Symlink(target, filepath.Join(root, name))
	}
	for _, same := range []string{"sys/class", "sys/bus/pci/drivers"} {
		require.NoError(t, link(same))
	}
	entries, err := os.ReadDir(filepath.Join("/", devices, vf))
	require.NoError(t, err)
	for _, e := range entries {
		if e.Name() != "physfn" {
			require.NoError(t, link(filepath.Join(devices, vf, e.Name())))
		}
	}
	return sriovtest.Refusing(root, func(path, value string) error {
		if err := os.WriteFile(filepath.Join("/", path), []byte(value), 0); err != nil {
			return err
		}
		driver := filepath.Join(devices, vf, "driver")
		if err := os.Remove(filepath.Join(root, driver)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := link(driver); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}), root
}

func TestNodeVFInsideVM(t *testing.T) {
	outside := newBench(t)
	require.NoError(t, outside.apply(pol("p", "nics", outside.pfs[0], "", 1, "")))
	vf := outside.pf(outside.pfs[0]).VFs[0].PciAddress

	host, root := insideVM(t, vf)
	vm := &bench{Machine: Machine{Host: host, Files: Files{Root: root}}, t: t}
	require.Len(t, vm.found().Interfaces, 1)
	was := vm.pf(vf)
	require.True(t, was.Virtual())
	require.Equal(t, []int{1, 1}, []int{was.TotalVfs, was.NumVfs})
	require.NotEmpty(t, was.Mac)

	p := pol("vm", "nics", vf, "", 1, "")
	require.NoError(t, vm.apply(p))
	require.Equal(t, "igbvf", vm.converged(vf, p))
	require.Equal(t, was, vm.pf(vf), "nothing of the link is changed")
	require.Equal(t, map[string]int{"nics": 1}, vm.resources(p))

	p.Spec.DeviceType = v1.DeviceTypeVFIO
	require.NoError(t, vm.apply(p))
	require.Equal(t, "vfio-pci", vm.converged(vf, p))
	require.Equal(t, map[string]int{"nics": 1}, vm.resources(p))

	t.Log("without the policy it is the kernel's again")
	require.NoError(t, vm.apply())
	require.Equal(t, "igbvf", vm.converged(vf))
	require.NotEmpty(t, vm.pf(vf).Name)
}

func TestNodeRdmaMode(t *testing.T) {
	b := newBench(t)
	require.Equal(t, "shared", b.found().RdmaMode, "as the kernel starts")
	set := func(mode string) error {
		spec := v1.SriovNetworkNodeStateSpec{System: v1.System{RdmaMode: mode}}
		works, problems, _ := b.work(spec)
		require.Empty(t, problems)
		require.Len(t, works, 1)
		return b.Apply(t.Context(), works[0], nil, plan.Owned{})
	}
	require.NoError(t, set("exclusive"))
	require.Equal(t, string(rdma.Exclusive), b.found().RdmaMode)
	require.NoError(t, set("shared"))
	require.Equal(t, "shared", b.found().RdmaMode)
}
