// SPDX-License-Identifier: Apache-2.0

package allocation_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/allocation"
	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/internal/testhost"
	"github.com/stretchr/testify/require"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// cdiPool is a pool for Update, of the devices that some members are.
func cdiPool(a allocation.Allocator, name string, dir *allocation.CDI, ids ...string) allocation.CDIPool {
	a.Pool.Resource.Name, a.CDI = name, dir
	p := allocation.CDIPool{Allocator: a}
	for _, id := range ids {
		p.List = append(p.List, a.Members[id])
	}
	return p
}

func update(t *testing.T, dir *allocation.CDI, held map[string]string, pools ...allocation.CDIPool) {
	t.Helper()
	failed, err := dir.Update(pools, func(r config.Resource, id string) bool { return held[id] == r.Name })
	require.NoError(t, err)
	require.Empty(t, failed)
}

// defined is what a container runtime finds defined in a directory.
func defined(t *testing.T, dir string) *cdi.Cache {
	t.Helper()
	cache, err := cdi.NewCache(cdi.WithSpecDirs(dir), cdi.WithAutoRefresh(false))
	require.NoError(t, err)
	require.Empty(t, cache.GetErrors())
	return cache
}

func qualified(ids ...string) (names []string) {
	for _, id := range ids {
		names = append(names, "example.com/net-pci="+id)
	}
	return names
}

func TestCDI(t *testing.T) {
	t.Parallel()
	root, path := testhost.New(t), t.TempDir()
	dir := allocation.OpenCDI(path)
	all := allocator(t, root, `"selectors": {"pfNames": ["pf0"]}`)
	netdevs, userspace := cdiPool(all, "nic", dir, testhost.VF0), cdiPool(all, "dpdk", dir, testhost.VF1, testhost.VF2)
	update(t, dir, nil, netdevs, userspace)
	cache := defined(t, path)
	require.ElementsMatch(t, qualified(testhost.VF0, testhost.VF1, testhost.VF2), cache.ListDevices())
	var nodes []string
	for _, n := range cache.GetDevice("example.com/net-pci=" + testhost.VF2).ContainerEdits.DeviceNodes {
		nodes = append(nodes, n.HostPath+" "+n.Path+" "+n.Permissions)
	}
	require.Equal(t, []string{"/dev/vfio/vfio /dev/vfio/vfio rw", "/dev/vfio/noiommu-22 /dev/vfio/22 rw"}, nodes)

	// The file follows the host when a device is given out.
	testhost.Link(t, root, "sys/bus/pci/devices/"+testhost.VF1+"/iommu_group", "../../../../kernel/iommu_groups/77")
	got, err := userspace.Allocate([]string{testhost.VF1})
	require.NoError(t, err)
	require.Empty(t, got.Nodes)
	require.Equal(t, qualified(testhost.VF1), got.CDI)
	data, err := os.ReadFile(dir.Path(userspace.Pool))
	require.NoError(t, err)
	require.Contains(t, string(data), "/dev/vfio/77")
	require.True(t, json.Valid(data))

	// A pool without devices has no file.
	update(t, dir, nil, netdevs, cdiPool(all, "dpdk", dir))
	require.NoFileExists(t, dir.Path(userspace.Pool))
}

// A device is defined once, whatever became of the pools: what pods hold stays as they got
// it, and nothing that a pool defines stays elsewhere.
func TestCDIDefinesADeviceOnce(t *testing.T) {
	t.Parallel()
	root := testhost.New(t)
	for name, restart := range map[string]bool{"reload": false, "restart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := t.TempDir()
			dir := allocation.OpenCDI(path)
			all := allocator(t, root, `"selectors": {"pfNames": ["pf0"]}`)
			old := cdiPool(all, "a", dir, testhost.VF1, testhost.VF2, testhost.VF3)
			update(t, dir, nil, old)
			if restart {
				dir = allocation.OpenCDI(path)
			}
			renamed := cdiPool(all, "z", dir, testhost.VF2, testhost.VF3)
			// Also while nobody knows who holds what.
			_, err := dir.Update([]allocation.CDIPool{renamed}, func(config.Resource, string) bool { return true })
			require.NoError(t, err)
			require.ElementsMatch(t, qualified(testhost.VF1, testhost.VF2, testhost.VF3), defined(t, path).ListDevices())
			update(t, dir, map[string]string{testhost.VF1: "a", testhost.VF2: "z"}, renamed)
			require.ElementsMatch(t, qualified(testhost.VF1, testhost.VF2, testhost.VF3), defined(t, path).ListDevices())
			require.True(t, dir.Leftovers([]allocation.CDIPool{renamed}))
			// A container that was being given a device of the old pool defines no other again.
			_, err = old.Allocate([]string{testhost.VF1})
			require.NoError(t, err)
			require.ElementsMatch(t, qualified(testhost.VF1, testhost.VF2, testhost.VF3), defined(t, path).ListDevices())
			update(t, dir, nil, renamed)
			require.NoFileExists(t, dir.Path(old.Pool))
			require.False(t, dir.Leftovers([]allocation.CDIPool{renamed}))
		})
	}
}

// The definition of a device that a pod holds outlives the device's nodes, also over a
// restart, and also if the SR-IOV network device plugin wrote it.
func TestCDIKeepsWhatPodsHold(t *testing.T) {
	t.Parallel()
	root, path := testhost.New(t), t.TempDir()
	all := allocator(t, root, `"selectors": {"pfNames": ["pf0"]}`)
	dir := allocation.OpenCDI(path)
	testhost.Write(t, path, filepath.Base(dir.Path(all.Pool)), "cdiVersion: 0.5.0\nkind: example.com/net-pci\ncontainerEdits: {}\ndevices:\n"+
		"- name: \"0000:01:02.1\"\n  containerEdits:\n    deviceNodes:\n    - hostPath: /dev/vfio/99\n      path: /dev/vfio/99\n      permissions: rw\n"+
		"- name: \"0000:01:02.7\"\n  containerEdits: {}\n")
	testhost.Function(t, root, testhost.VF1, "20000", "8086:154C", "", 0)
	p := cdiPool(all, "nic-1", dir, testhost.VF0, testhost.VF1)
	update(t, dir, nil, p)
	cache := defined(t, path)
	require.ElementsMatch(t, qualified(testhost.VF0, testhost.VF1), cache.ListDevices())
	require.Equal(t, "/dev/vfio/99", cache.GetDevice("example.com/net-pci=" + testhost.VF1).ContainerEdits.DeviceNodes[0].HostPath)
}

// A directory that cannot be listed at first is not one without specifications: what an
// earlier run defined would be defined twice.
func TestCDIDirectoryThatCannotBeListed(t *testing.T) {
	t.Parallel()
	root, path := testhost.New(t), t.TempDir()
	all := allocator(t, root, `"selectors": {"pfNames": ["pf0"]}`)
	dir := allocation.OpenCDI(path)
	update(t, dir, nil, cdiPool(all, "a", dir, testhost.VF1, testhost.VF2))

	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(link, link)) // ELOOP
	dir = allocation.OpenCDI(link)
	renamed := cdiPool(all, "z", dir, testhost.VF2)
	failed, err := dir.Update([]allocation.CDIPool{renamed}, func(config.Resource, string) bool { return true })
	require.NoError(t, err)
	require.ErrorIs(t, failed[renamed.Pool.Resource], syscall.ELOOP)
	require.NoError(t, os.Remove(link))
	require.NoError(t, os.Symlink(path, link))
	update(t, dir, map[string]string{testhost.VF1: "a"}, renamed)
	require.ElementsMatch(t, qualified(testhost.VF1, testhost.VF2), defined(t, path).ListDevices())
}

// What is no file of an earlier run keeps nobody waiting, and runtimes read no name that begins
// with a digit.
func TestCDIOddities(t *testing.T) {
	t.Parallel()
	root, path := testhost.New(t), t.TempDir()
	require.NoError(t, syscall.Mkfifo(filepath.Join(path, "sriov-dp-pipe.yaml"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(path, "sriov-dp-directory.yaml"), 0o755))
	p := cdiPool(allocator(t, root, `"selectors": {"pfNames": ["pf0"]}`), "a", allocation.OpenCDI(path), testhost.VF1)
	update(t, p.CDI, nil, p)
	require.NoError(t, os.Remove(filepath.Join(path, "sriov-dp-pipe.yaml"))) // or the runtimes' library waits
	require.Equal(t, qualified(testhost.VF1), defined(t, path).ListDevices())
	p.Pool.Resource.Prefix = "5g.example.com"
	failed, err := p.CDI.Update([]allocation.CDIPool{p}, func(config.Resource, string) bool { return false })
	require.NoError(t, err)
	require.ErrorContains(t, failed[p.Pool.Resource], "begins with a digit")
}

func TestCDIOnAFullDisk(t *testing.T) {
	t.Parallel()
	root := testhost.New(t)
	all := allocator(t, root, `"selectors": {"pfNames": ["pf0"]}`)
	blocked := filepath.Join(t.TempDir(), "file")
	testhost.Write(t, filepath.Dir(blocked), "file", "")
	dir := allocation.OpenCDI(filepath.Join(blocked, "cdi"))
	p := cdiPool(all, "a", dir, testhost.VF0)
	failed, err := dir.Update([]allocation.CDIPool{p}, func(config.Resource, string) bool { return true })
	require.NoError(t, err)
	require.Error(t, failed[p.Pool.Resource])
	require.NoError(t, os.Remove(blocked))
	update(t, dir, nil, p)
	require.Len(t, defined(t, filepath.Join(blocked, "cdi")).ListDevices(), 1)
}
