// SPDX-License-Identifier: Apache-2.0

// Package hardware_test checks that an emulated node is the machine the other
// suites rely on. It uses nothing but sysfs and iproute2, so that a failure here
// is one of the node and not of sriovkit.
package hardware_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

const pciDevices = "/sys/bus/pci/devices"

// pfs returns the sysfs directories of the igb functions with SR-IOV.
func pfs(t *testing.T) []string { return pfsOf(t, "igb") }

func pfsOf(t *testing.T, driverName string) []string {
	t.Helper()
	files, err := filepath.Glob(pciDevices + "/*/sriov_totalvfs")
	require.NoError(t, err)
	var dirs []string
	for _, f := range files {
		if dir := filepath.Dir(f); driver(t, dir) == driverName {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

func read(t *testing.T, elements ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(elements...))
	require.NoError(t, err)
	return strings.TrimSpace(string(text))
}

func write(t *testing.T, value string, elements ...string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(elements...), []byte(value), 0))
}

func driver(t *testing.T, device string) string {
	t.Helper()
	target, err := os.Readlink(filepath.Join(device, "driver"))
	require.NoError(t, err)
	return filepath.Base(target)
}

func netdev(t *testing.T, device string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(device, "net", "*"))
	require.NoError(t, err)
	virtio, err := filepath.Glob(filepath.Join(device, "virtio*", "net", "*"))
	require.NoError(t, err)
	names = append(names, virtio...)
	require.Len(t, names, 1, "netdevs of %s", device)
	return filepath.Base(names[0])
}

func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput() // also in cleanups, where t.Context is done
	require.NoError(t, err, "%s: %s", strings.Join(args, " "), out)
	return string(out)
}

// eventually polls: these tests must not depend on the event code of libsriov.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within 5 min", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// createVFs brings the PF up and sets its VF count for the time of the test.
func createVFs(t *testing.T, pf string, n int) []string {
	t.Helper()
	run(t, "ip", "link", "set", netdev(t, pf), "up")
	write(t, fmt.Sprint(n), pf, "sriov_numvfs")
	t.Cleanup(func() { write(t, "0", pf, "sriov_numvfs") })
	var vfs []string
	for i := range n {
		vf, err := filepath.EvalSymlinks(filepath.Join(pf, fmt.Sprintf("virtfn%d", i)))
		require.NoError(t, err)
		vfs = append(vfs, vf)
	}
	return vfs
}

func TestNodePFs(t *testing.T) {
	sriovtest.NeedNode(t)
	found := pfs(t)
	require.Len(t, found, 2)
	for _, pf := range found {
		require.Equal(t, "igb", driver(t, pf))
		require.Equal(t, "7", read(t, pf, "sriov_totalvfs"))
		require.Equal(t, "0", read(t, pf, "sriov_numvfs"))
		_, err := os.Readlink(filepath.Join(pf, "iommu_group"))
		require.NoError(t, err)
		netdev(t, pf)
	}
}

func TestNodeVFs(t *testing.T) {
	sriovtest.NeedNode(t)
	pf := pfs(t)[0]
	groups := map[string]bool{}
	for _, vf := range createVFs(t, pf, 7) {
		require.Equal(t, "igbvf", driver(t, vf))
		netdev(t, vf)
		group, err := os.Readlink(filepath.Join(vf, "iommu_group"))
		require.NoError(t, err)
		groups[group] = true
	}
	require.Len(t, groups, 7, "each VF has an IOMMU group of its own")
}

// TestNodeTraffic proves that frames really travel, and that a VLAN set on the
// PF separates VFs.
func TestNodeTraffic(t *testing.T) {
	sriovtest.NeedNode(t)
	all := pfs(t)
	ping := connect(t, createVFs(t, all[0], 1)[0], createVFs(t, all[1], 1)[0])
	eventually(t, "ping from VF to VF", ping)
	run(t, "ip", "link", "set", netdev(t, all[0]), "vf", "0", "vlan", "100")
	require.False(t, ping(), "a VF in VLAN 100 reaches one without a VLAN")
	run(t, "ip", "link", "set", netdev(t, all[1]), "vf", "0", "vlan", "100")
	eventually(t, "ping within VLAN 100", ping)
}

// connect gives two VFs namespaces and addresses and returns a ping from one to the other.
func connect(t *testing.T, vfs ...string) (ping func() bool) {
	t.Helper()
	for i, vf := range vfs {
		ns := fmt.Sprintf("traffic%d", i)
		name := netdev(t, vf)
		run(t, "ip", "netns", "add", ns)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() }) // which the node does not outlive
		run(t, "ip", "link", "set", name, "netns", ns)
		run(t, "ip", "-n", ns, "link", "set", name, "up")
		run(t, "ip", "-n", ns, "addr", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", name)
	}
	return func() bool {
		return exec.CommandContext(t.Context(), "ip", "netns", "exec", "traffic0", "ping", "-qc1", "-W1", "192.0.2.2").Run() == nil
	}
}

func TestNodeVFIO(t *testing.T) {
	sriovtest.NeedNode(t)
	vf := createVFs(t, pfs(t)[0], 1)[0]
	address := filepath.Base(vf)
	rebind := func(override string) {
		write(t, override, vf, "driver_override")
		write(t, address, vf, "driver", "unbind")
		write(t, address, "/sys/bus/pci/drivers_probe")
	}
	rebind("vfio-pci")
	require.Equal(t, "vfio-pci", driver(t, vf))
	group, err := os.Readlink(filepath.Join(vf, "iommu_group"))
	require.NoError(t, err)
	require.FileExists(t, filepath.Join("/dev/vfio", filepath.Base(group)))
	rebind("\n")
	require.Equal(t, "igbvf", driver(t, vf))
}

// TestNodeHotplug takes a PF with VFs away and brings it back.
func TestNodeHotplug(t *testing.T) {
	sriovtest.NeedNode(t)
	pf := pfs(t)[1]
	run(t, "ip", "link", "set", netdev(t, pf), "up")
	write(t, "2", pf, "sriov_numvfs")
	write(t, "1", pf, "remove")
	require.NoDirExists(t, pf)
	write(t, "1", "/sys/bus/pci/rescan")
	require.Equal(t, "igb", driver(t, pf))
	require.Equal(t, "0", read(t, pf, "sriov_numvfs"))
	createVFs(t, pf, 2)
}

func TestNodeNetdevsim(t *testing.T) {
	sriovtest.NeedNode(t)
	write(t, "10 1 4", "/sys/bus/netdevsim/new_device")
	t.Cleanup(func() { write(t, "10", "/sys/bus/netdevsim/del_device") })
	dev := "/sys/bus/netdevsim/devices/netdevsim10"
	write(t, "2", dev, "sriov_numvfs")
	run(t, "ip", "link", "set", netdev(t, dev), "vf", "1", "state", "disable")
	run(t, "devlink", "dev", "eswitch", "set", "netdevsim/netdevsim10", "mode", "switchdev")
	require.Contains(t, run(t, "devlink", "port", "show"), "flavour pcivf")
}

func TestNodeVDPA(t *testing.T) {
	sriovtest.NeedNode(t)
	run(t, "vdpa", "dev", "add", "name", "vdpa0", "mgmtdev", "vdpasim_net", "mac", "52:54:00:aa:00:01")
	t.Cleanup(func() { run(t, "vdpa", "dev", "del", "vdpa0") })
	_, err := os.Stat("/sys/bus/vdpa/devices/vdpa0") // a link
	require.NoError(t, err)
}
