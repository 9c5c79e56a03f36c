// SPDX-License-Identifier: Apache-2.0

package hardware_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

// TestNodeVirtio looks at the other kind of NIC: a PF whose driver knows no settings of
// VFs, and VFs that are on one layer 2 with igb's.
func TestNodeVirtio(t *testing.T) {
	sriovtest.NeedNode(t)
	found := pfsOf(t, "virtio-pci")
	require.Len(t, found, 1)
	pf := found[0]
	require.Equal(t, "7", read(t, pf, "sriov_totalvfs"))
	groups := map[string]bool{}
	vfs := createVFs(t, pf, 7)
	for _, vf := range vfs {
		require.Equal(t, "virtio-pci", driver(t, vf))
		require.Equal(t, read(t, pf, "device"), read(t, vf, "device"), "PF and VF have one device ID")
		group, err := os.Readlink(filepath.Join(vf, "iommu_group"))
		require.NoError(t, err)
		groups[group] = true
	}
	require.Len(t, groups, 7)
	out, err := exec.Command("ip", "link", "set", netdev(t, pf), "vf", "0", "mac", "02:00:00:00:00:01").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "Operation not supported")
	require.NotContains(t, run(t, "ip", "link", "show", netdev(t, pf)), "vf 0")
	eventually(t, "ping from a virtio VF to an igb VF", connect(t, vfs[6], createVFs(t, pfs(t)[0], 1)[0]))
}

// TestNodeVirtioVDPA makes a VF a vDPA device.
func TestNodeVirtioVDPA(t *testing.T) {
	sriovtest.NeedNode(t)
	vf := createVFs(t, pfsOf(t, "virtio-pci")[0], 1)[0]
	address := filepath.Base(vf)
	write(t, "vp-vdpa", vf, "driver_override")
	write(t, address, vf, "driver", "unbind")
	write(t, address, "/sys/bus/pci/drivers_probe")
	require.Equal(t, "vp-vdpa", driver(t, vf))
	run(t, "vdpa", "dev", "add", "name", "vdpa7", "mgmtdev", "pci/"+address)
	t.Cleanup(func() {
		run(t, "vdpa", "dev", "del", "vdpa7")
		write(t, "\n", vf, "driver_override")
	})
	require.FileExists(t, filepath.Join(vf, "vdpa7", "driver_override"))
}
