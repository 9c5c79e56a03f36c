// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// guest is a virtual machine that was handed two VFs: the tree of a host without
// anything that ties the VFs to their PF.
func guest(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	drop := false
	for line := range strings.Lines(sriovtest.Generate(sriovtest.Spec{PFs: 1, VFs: 2})) {
		if !strings.HasPrefix(line, "\t") { // content goes with its file
			drop = strings.Contains(line, "/physfn") || strings.Contains(line, "/virtfn") || strings.Contains(line, "/sriov_")
		}
		if !drop {
			out.WriteString(line)
		}
	}
	dir := t.TempDir()
	require.NoError(t, sriovtest.Unpack(dir, out.String()))
	return dir
}

func TestVirtualMachine(t *testing.T) {
	const vf = "0000:01:01.0"
	host, err := libsriov.Open(guest(t))
	require.NoError(t, err)
	found, err := Discover(host)
	require.NoError(t, err)
	state := &v1.SriovNetworkNodeState{}
	state.Status.Interfaces = found.Interfaces

	byAddress := map[string]v1.InterfaceExt{}
	for _, i := range found.Interfaces {
		byAddress[i.PciAddress] = i
	}
	nic := byAddress["0000:01:00.0"]
	require.False(t, nic.Virtual())
	require.Zero(t, nic.TotalVfs, "a NIC of the machine's own has nothing to give")
	got := byAddress[vf]
	require.True(t, got.Virtual())
	require.Equal(t, 1, got.TotalVfs)
	require.Equal(t, 1, got.NumVfs)

	p := pol("p", "nics", vf, "", 1, "")
	result := plan.Node(plan.Input{Policies: []*v1.SriovNetworkNodePolicy{p}, State: state})
	works, problems := plan.Steps(plan.Have{Interfaces: found.Interfaces, Planned: true}, result.Spec)
	require.Empty(t, problems)
	require.Len(t, works, 1)
	require.Equal(t, []plan.Op{plan.OpOwn}, ops(works[0]), "as it is, nothing of the link is changed")
	require.Equal(t, []plan.Selector{{PCIAddresses: []string{vf}, Drivers: []string{"iavf"}}}, plan.DevicePlugin(found.Interfaces, result.Spec, plan.Exceptions{}).List[0].Selectors)

	p.Spec.DeviceType, p.Spec.Mtu = v1.DeviceTypeVFIO, 9000
	result = plan.Node(plan.Input{Policies: []*v1.SriovNetworkNodePolicy{p}, State: state})
	works, _ = plan.Steps(plan.Have{Interfaces: found.Interfaces, Planned: true}, result.Spec)
	require.Equal(t, []plan.Op{plan.OpOwn, plan.OpBind}, ops(works[0]))
	require.Equal(t, []string{vf}, works[0].Disturbs())
}

func ops(w plan.Work) []plan.Op {
	var out []plan.Op
	for _, s := range w.Steps {
		out = append(out, s.Op)
	}
	return out
}

// A write that the kernel refuses is an error that names step and device; the next attempt
// continues from there.
func TestRefusedWrite(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, sriovtest.Unpack(dir, sriovtest.Generate(sriovtest.Spec{PFs: 1})))
	var mu sync.Mutex
	var tried []string
	host := sriovtest.Refusing(dir, func(path, value string) error {
		mu.Lock()
		defer mu.Unlock()
		tried = append(tried, filepath.Base(path)+"="+value)
		return unix.EROFS
	})
	m := Machine{Host: host, Files: Files{Root: t.TempDir()}}
	found, err := Discover(host)
	require.NoError(t, err)
	require.Len(t, found.Interfaces, 1)
	spec := v1.SriovNetworkNodeStateSpec{Interfaces: []v1.Interface{{
		PciAddress: found.Interfaces[0].PciAddress, NumVfs: 2, VfGroups: []v1.VfGroup{{ResourceName: "r", PolicyName: "p", VfRange: "0-1", DeviceType: "netdevice"}},
	}}}
	works, problems := plan.Steps(plan.Have{Interfaces: found.Interfaces}, spec)
	require.Empty(t, problems)
	require.Len(t, works, 1)
	err = m.Apply(t.Context(), works[0], &found.Interfaces[0], plan.Owned{})
	require.ErrorIs(t, err, unix.EROFS)
	require.ErrorContains(t, err, "create VFs of 0000:01:00.0")
	require.Equal(t, []string{"sriov_numvfs=2"}, tried)

	owned, err := m.Files.Owned()
	require.NoError(t, err)
	require.Contains(t, owned, "0000:01:00.0")
}

func TestAllowNoIOMMU(t *testing.T) {
	root := t.TempDir()
	m := Machine{Files: Files{Root: root}}
	module := filepath.Join(root, "sys/module/vfio")
	require.NoError(t, os.MkdirAll(module, 0o755))
	require.ErrorContains(t, m.allowNoIOMMU(t.Context(), "vfio-pci"), "CONFIG_VFIO_NOIOMMU")

	parameter := filepath.Join(module, "parameters/enable_unsafe_noiommu_mode")
	require.NoError(t, os.Mkdir(filepath.Dir(parameter), 0o755))
	require.NoError(t, os.WriteFile(parameter, []byte("N"), 0o644))
	require.NoError(t, m.allowNoIOMMU(t.Context(), "vfio-pci"))
	text, err := os.ReadFile(parameter)
	require.NoError(t, err)
	require.Equal(t, "Y", string(text))
}
