// SPDX-License-Identifier: Apache-2.0

// Package testhost has the small host that the tests of this module share: one
// device of every kind that a pool can hold.
package testhost

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Functions of the host.
const (
	PF    = "0000:01:00.0" // i40e, pf0, four VFs, NUMA node 0
	VF0   = "0000:01:02.0" // iavf, vf0
	VF1   = "0000:01:02.1" // vfio-pci, IOMMU group 21
	VF2   = "0000:01:02.2" // vfio-pci without an IOMMU, group 22
	VF3   = "0000:01:02.3" // igb_uio, uio3
	NIC   = "0000:02:00.0" // igb, host0; could have 7 VFs, has none; no NUMA node
	Accel = "0000:03:00.0" // accelerator, vfio-pci, group 40, NUMA node 1
	ACPI  = "0000:04:00.0" // e1000e, no SR-IOV, acpi_index 101
)

const bus = "sys/bus/pci/devices/"

// New unpacks the host into a temporary directory with a /dev.
func New(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	for _, d := range []struct {
		address, class, id, driver string
		numa                       int
	}{
		{"0000:00:00.0", "60400", "8086:A1B2", "pcieport", 0},
		{PF, "20000", "8086:1572", "i40e", 0},
		{VF0, "20000", "8086:154C", "iavf", 0},
		{VF1, "20000", "8086:154C", "vfio-pci", 0},
		{VF2, "20000", "8086:154C", "vfio-pci", 0},
		{VF3, "20000", "8086:154C", "igb_uio", 0},
		{NIC, "20000", "8086:1521", "igb", -1},
		{Accel, "120000", "8086:0D5C", "vfio-pci", 1},
		{ACPI, "20000", "8086:10D3", "e1000e", 0},
	} {
		Function(t, root, d.address, d.class, d.id, d.driver, d.numa)
	}
	Write(t, root, bus+ACPI+"/acpi_index", "101")
	SetVFs(t, root, PF, VF0, VF1, VF2, VF3)
	SetVFs(t, root, NIC)
	Netdev(t, root, PF, "pf0")
	Netdev(t, root, VF0, "vf0")
	Netdev(t, root, NIC, "host0")
	Netdev(t, root, ACPI, "onboard")
	for a, group := range map[string]string{VF1: "21", VF2: "22", Accel: "40"} {
		Link(t, root, bus+a+"/iommu_group", "../../../../kernel/iommu_groups/"+group)
	}
	Write(t, root, "sys/kernel/iommu_groups/22/name", "vfio-noiommu")
	Write(t, root, bus+VF3+"/uio/uio3/name", "igb_uio")
	Write(t, root, "dev/vhost-net", "")
	Write(t, root, "dev/net/tun", "")
	return root
}

// Function adds a PCI function.
func Function(t testing.TB, root, address, class, id, driver string, numa int) {
	t.Helper()
	vendor, device, _ := strings.Cut(id, ":")
	text := fmt.Sprintf("PCI_CLASS=%s\nPCI_ID=%s\nPCI_SUBSYS_ID=8086:0000\nPCI_SLOT_NAME=%s\nMODALIAS=pci:v0000%sd0000%ssv00008086sd00000000bc%02ssc00i00\n",
		class, id, address, vendor, device, class[:len(class)-4])
	if driver != "" {
		text = "DRIVER=" + driver + "\n" + text
	}
	Write(t, root, bus+address+"/uevent", text)
	Write(t, root, bus+address+"/numa_node", fmt.Sprint(numa))
	_ = os.Remove(filepath.Join(root, bus, address, "driver"))
	if driver != "" {
		Link(t, root, bus+address+"/driver", "../../drivers/"+driver)
		require.NoError(t, os.MkdirAll(filepath.Join(root, "sys/bus/pci/drivers", driver), 0o755))
	}
}

// SetVFs makes these functions the VFs of a PF, and no others.
func SetVFs(t testing.TB, root, pf string, vfs ...string) {
	t.Helper()
	old, err := filepath.Glob(filepath.Join(root, bus, pf, "virtfn*"))
	require.NoError(t, err)
	for _, o := range old {
		require.NoError(t, os.Remove(o))
	}
	Write(t, root, bus+pf+"/sriov_totalvfs", "7")
	Write(t, root, bus+pf+"/sriov_numvfs", fmt.Sprint(len(vfs)))
	for i, vf := range vfs {
		Link(t, root, fmt.Sprintf("%s%s/virtfn%d", bus, pf, i), "../"+vf)
		Link(t, root, bus+vf+"/physfn", "../"+pf)
	}
}

// Netdev gives a function an interface.
func Netdev(t testing.TB, root, address, name string) {
	t.Helper()
	dir := bus + address + "/net/" + name
	Write(t, root, dir+"/type", "1")
	Write(t, root, dir+"/ifindex", "7")
	Link(t, root, "sys/class/net/"+name, "../../bus/pci/devices/"+address+"/net/"+name)
}

// RemoveNetdev takes an interface away, as a move into a pod does.
func RemoveNetdev(t testing.TB, root, address, name string) {
	t.Helper()
	require.NoError(t, os.Remove(filepath.Join(root, "sys/class/net", name)))
	require.NoError(t, os.RemoveAll(filepath.Join(root, bus, address, "net")))
}

// RDMA gives a function an RDMA device with its character devices.
func RDMA(t testing.TB, root, address, name string, number int) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(root, bus, address, "infiniband", name), 0o755))
	Link(t, root, "sys/class/infiniband/"+name, "../../bus/pci/devices/"+address+"/infiniband/"+name)
	for _, node := range []string{"infiniband_verbs/uverbs", "infiniband_mad/umad", "infiniband_mad/issm"} {
		Write(t, root, fmt.Sprintf("sys/class/%s%d/ibdev", node, number), name)
	}
	Write(t, root, "dev/infiniband/rdma_cm", "")
}

// SF adds a sub-function below a PF.
func SF(t testing.TB, root, pf, name string, number int) {
	t.Helper()
	Write(t, root, bus+pf+"/"+name+"/sfnum", fmt.Sprint(number))
	Link(t, root, "sys/bus/auxiliary/devices/"+name, "../../pci/devices/"+pf+"/"+name)
}

// Remove takes a function away.
func Remove(t testing.TB, root, address string) {
	t.Helper()
	require.NoError(t, os.RemoveAll(filepath.Join(root, bus, address)))
}

// Write makes a file with its directories.
func Write(t testing.TB, root, path, text string) {
	t.Helper()
	full := filepath.Join(root, path)
	require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o755))
	require.NoError(t, os.WriteFile(full, []byte(text), 0o644))
}

// Link makes a symbolic link with its directories.
func Link(t testing.TB, root, path, target string) {
	t.Helper()
	full := filepath.Join(root, path)
	require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o755))
	_ = os.Remove(full) // of the host as it was before
	require.NoError(t, os.Symlink(target, full))
}
