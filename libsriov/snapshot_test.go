// SPDX-License-Identifier: Apache-2.0

package libsriov_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

func TestSnapshotPairsFunctions(t *testing.T) {
	t.Parallel()
	s, err := sriovtest.Generated(t, sriovtest.Spec{PFs: 2, VFs: 10, Bystanders: 3}).Snapshot()
	require.NoError(t, err)
	assert.Empty(t, s.Functions)
	require.Len(t, s.PFs, 2)
	pf := s.PFs[1]
	require.Len(t, pf.VFs, 10)
	assert.Equal(t, libsriov.VF{
		PF:    mustAddress(t, "0000:05:00.0"),
		Index: 9,
		Function: libsriov.Function{
			Address: mustAddress(t, "0000:05:02.1"), Class: 0x020000, Vendor: 0x8086, Device: 0x1889, SubsystemVendor: 0x8086,
			Driver: "iavf", NUMANode: 1, Netdevs: []string{"pf1v9"},
		},
	}, pf.VFs[9])
	pf.VFs = nil
	assert.Equal(t, libsriov.PF{
		TotalVFs: 256, NumVFs: 10,
		Function: libsriov.Function{
			Address: mustAddress(t, "0000:05:00.0"), Class: 0x020000, Vendor: 0x8086, Device: 0x159b, SubsystemVendor: 0x8086,
			Driver: "ice", NUMANode: 1, Netdevs: []string{"pf1"},
		},
	}, pf)
}

// The lookups of one device must see what the snapshot sees.
func TestSingleLookupsAgreeWithSnapshot(t *testing.T) {
	t.Parallel()
	for _, tree := range []string{"igb-node", "switchdev"} {
		t.Run(tree, func(t *testing.T) {
			t.Parallel()
			h, err := libsriov.Open(sriovtest.Captured(t, tree))
			require.NoError(t, err)
			s, err := h.Snapshot()
			require.NoError(t, err)
			require.NotEmpty(t, s.PFs)
			for _, want := range s.PFs {
				pf, err := h.PF(want.Address)
				require.NoError(t, err)
				assert.Equal(t, want, pf)
				for _, want := range pf.VFs {
					vf, err := h.VF(want.Address)
					require.NoError(t, err)
					assert.Equal(t, want, vf)
				}
			}
			for _, want := range s.Functions {
				f, err := h.Function(want.Address)
				require.NoError(t, err)
				assert.Equal(t, want, f)
			}
		})
	}
}

func TestSnapshotReportsBrokenDevicesAndKeepsTheOthers(t *testing.T) {
	t.Parallel()
	const vf3, pf0 = "sys/devices/pci0000:00/0000:01:01.3", "sys/devices/pci0000:00/0000:01:00.0"
	for name, tc := range map[string]struct {
		harm   func(t *testing.T, root string)
		device string // that the error names
		vfs    int    // that are left on pf0, of 8; -1 if the PF is gone
	}{
		"garbage uevent of a VF": {harm: overwrite(vf3+"/uevent", "\x00\xff=\n"), device: "0000:01:01.3", vfs: 7},
		"truncated uevent":       {harm: overwrite(vf3+"/uevent", "PCI_CLASS=20000\nPCI_ID=80"), device: "0000:01:01.3", vfs: 7},
		"empty uevent":           {harm: overwrite(vf3+"/uevent", ""), device: "0000:01:01.3", vfs: 7},
		"driver is a path":       {harm: overwrite(vf3+"/uevent", "DRIVER=../x\nPCI_CLASS=20000\nPCI_ID=8086:1889"), device: "0000:01:01.3", vfs: 7},
		"VF gone between reads":  {harm: remove("sys/bus/pci/devices/0000:01:01.3"), device: "0000:01:01.3", vfs: 7},
		"dangling device link":   {harm: relink("sys/bus/pci/devices/0000:01:01.3", "nowhere"), device: "0000:01:01.3", vfs: 7},
		"device link to itself":  {harm: relink("sys/bus/pci/devices/0000:01:01.3", "0000:01:01.3"), device: "0000:01:01.3", vfs: 7},
		"not an address":         {harm: relink("sys/bus/pci/devices/0000:01:xx.3", "x"), device: "0000:01:xx.3", vfs: 8},
		"virtfn is missing":      {harm: remove(pf0 + "/virtfn3"), device: "0000:01:01.3", vfs: 7},
		"virtfn to no address":   {harm: relink(pf0+"/virtfn3", "../nonsense"), device: "0000:01:00.0", vfs: 7},
		"garbage VF count":       {harm: overwrite(pf0+"/sriov_numvfs", "many"), device: "0000:01:00.0", vfs: -1},
		"negative VF count":      {harm: overwrite(pf0+"/sriov_numvfs", "-1"), device: "0000:01:00.0", vfs: -1},
		"garbage total":          {harm: overwrite(pf0+"/sriov_totalvfs", ""), device: "0000:01:00.0", vfs: -1},
		"garbage NUMA node":      {harm: overwrite(pf0+"/numa_node", "near"), device: "0000:01:00.0", vfs: 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			require.NoError(t, sriovtest.Unpack(root, sriovtest.Generate(sriovtest.Spec{PFs: 2, VFs: 8, Bystanders: 1})))
			tc.harm(t, root)
			h, err := libsriov.Open(root)
			require.NoError(t, err)
			s, err := h.Snapshot()
			var broken *libsriov.DeviceError
			require.ErrorAs(t, err, &broken)
			assert.Contains(t, deviceNames(err), tc.device, "%v", err)
			byAddress := map[string]libsriov.PF{}
			for _, pf := range s.PFs {
				byAddress[pf.Address.String()] = pf
			}
			assert.Len(t, byAddress["0000:05:00.0"].VFs, 8, "the other PF")
			if pf, ok := byAddress["0000:01:00.0"]; tc.vfs >= 0 {
				assert.Len(t, pf.VFs, tc.vfs)
			} else {
				assert.False(t, ok)
			}
			assert.Empty(t, s.Functions, "nothing broken may pass for a device without SR-IOV")
		})
	}
}

// deviceNames are the devices that a joined error is about.
func deviceNames(err error) (names []string) {
	var one *libsriov.DeviceError
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			names = append(names, deviceNames(e)...)
		}
	} else if errors.As(err, &one) {
		names = append(names, one.Device)
	}
	return names
}

func overwrite(path, content string) func(*testing.T, string) {
	return func(t *testing.T, root string) {
		require.NoError(t, os.WriteFile(filepath.Join(root, path), []byte(content), 0o644))
	}
}

func remove(path string) func(*testing.T, string) {
	return func(t *testing.T, root string) { require.NoError(t, os.Remove(filepath.Join(root, path))) }
}

func relink(path, target string) func(*testing.T, string) {
	return func(t *testing.T, root string) {
		_ = os.Remove(filepath.Join(root, path))
		require.NoError(t, os.Symlink(target, filepath.Join(root, path)))
	}
}

func TestOpenWantsAHost(t *testing.T) {
	t.Parallel()
	_, err := libsriov.Open(t.TempDir())
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestLookupSentinels(t *testing.T) {
	t.Parallel()
	h := sriovtest.Generated(t, sriovtest.Spec{PFs: 1, VFs: 2})
	_, err := h.VF(mustAddress(t, "0000:01:00.0"))
	assert.ErrorIs(t, err, libsriov.ErrNotVF)
	_, err = h.PF(mustAddress(t, "0000:01:01.0"))
	assert.ErrorIs(t, err, libsriov.ErrNotPF)
	_, err = h.VF(mustAddress(t, "0000:09:00.0"))
	assert.ErrorIs(t, err, libsriov.ErrNoDevice)
	_, err = h.NumVFs(mustAddress(t, "0000:09:00.0"))
	assert.ErrorIs(t, err, libsriov.ErrNoDevice)
	_, err = h.LinkType("../../etc")
	assert.ErrorContains(t, err, "not an interface name")
}

// A host whose list of devices is gone or cannot be read is not a host without devices.
func TestSnapshotKnowsThatItKnowsNothing(t *testing.T) {
	t.Parallel()
	away := func(path string) func(*testing.T, string) {
		return func(t *testing.T, root string) {
			require.NoError(t, os.Rename(filepath.Join(root, path), filepath.Join(root, "away")))
		}
	}
	for name, harm := range map[string]func(t *testing.T, root string){
		"missing": away("sys/bus/pci/devices"),
		"not a list": func(t *testing.T, root string) {
			away("sys/bus/pci/devices")(t, root)
			overwrite("sys/bus/pci/devices", "")(t, root)
		},
		"broken classes": func(t *testing.T, root string) {
			away("sys/class/net")(t, root)
			overwrite("sys/class/net", "")(t, root)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			require.NoError(t, sriovtest.Unpack(root, sriovtest.Generate(sriovtest.Spec{PFs: 1, VFs: 2})))
			h, err := libsriov.Open(root)
			require.NoError(t, err)
			harm(t, root)
			s, err := h.Snapshot()
			require.ErrorIs(t, err, libsriov.ErrNoSnapshot)
			require.Zero(t, s)
		})
	}
}

// The PF of a network VF may be of another class.
func TestVFOfAPFOfAnotherClass(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, sriovtest.Unpack(root, sriovtest.Generate(sriovtest.Spec{PFs: 1, VFs: 2})))
	overwrite("sys/devices/pci0000:00/0000:01:00.0/uevent", "PCI_CLASS=B4000\nPCI_ID=8086:1888\n")(t, root)
	h, err := libsriov.Open(root)
	require.NoError(t, err)
	s, err := h.Snapshot()
	require.NoError(t, err)
	require.Empty(t, s.PFs)
	require.Empty(t, s.Functions)
	require.Len(t, s.VFs, 2)
	assert.Equal(t, mustAddress(t, "0000:01:00.0"), s.VFs[1].PF)
	assert.Equal(t, 1, s.VFs[1].Index)
}

func TestVFWithoutPFInSight(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, sriovtest.Unpack(root, `sys/bus/pci/devices/0000:00:05.0 -> ../../../devices/pci0000:00/0000:00:05.0
sys/devices/pci0000:00/0000:00:05.0/uevent
	DRIVER=iavf
	PCI_CLASS=20000
	PCI_ID=8086:1889
sys/devices/pci0000:00/0000:00:05.0/virtio3/net/eth1/type
	1
sys/class/net/eth1 -> ../../devices/pci0000:00/0000:00:05.0/virtio3/net/eth1
sys/class/net/bonding_masters
`))
	h, err := libsriov.Open(root)
	require.NoError(t, err)
	s, err := h.Snapshot()
	require.NoError(t, err)
	want := libsriov.Function{
		Address: mustAddress(t, "0000:00:05.0"), Class: 0x020000, Vendor: 0x8086, Device: 0x1889,
		Driver: "iavf", NUMANode: -1, Netdevs: []string{"eth1"},
	}
	assert.Equal(t, libsriov.Snapshot{Functions: []libsriov.Function{want}}, s)
	f, err := h.Function(want.Address)
	require.NoError(t, err)
	assert.Equal(t, want, f)
}

func BenchmarkSnapshot8PFs128VFs(b *testing.B) {
	h := sriovtest.Generated(b, sriovtest.Spec{PFs: 8, VFs: 128, Bystanders: 150})
	b.ReportAllocs()
	for b.Loop() {
		s, err := h.Snapshot()
		if err != nil || len(s.PFs) != 8 {
			b.Fatal(len(s.PFs), err)
		}
	}
}
