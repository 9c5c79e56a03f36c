// SPDX-License-Identifier: Apache-2.0

package allocation_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/allocation"
	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/internal/testhost"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/stretchr/testify/require"
)

// allocator reads the host at root and makes a pool of it.
func allocator(t *testing.T, root, body string) allocation.Allocator {
	t.Helper()
	cfg, err := config.Parse([]byte(`{"resourceList": [{"resourceName": "nic-1", `+body+`}]}`), "example.com")
	require.NoError(t, err)
	h, err := libsriov.Open(root)
	require.NoError(t, err)
	devices, err := pool.Read(pool.Source{Host: h}, config.NeedsOf(cfg.Pools))
	require.NoError(t, err)
	a := allocation.Allocator{
		Host: allocation.Host{Host: h, DevRoot: root}, Pool: cfg.Pools[0],
		Members: map[string]pool.Member{}, DeviceInfo: filepath.Join(root, "run/devinfo/dp"),
	}
	for _, m := range pool.Assign(devices, cfg.Pools, nil).Members[0] {
		a.Members[m.ID] = m
	}
	return a
}

func same(path string) allocation.Node { return allocation.Node{Host: path, Container: path} }

const envName = "PCIDEVICE_EXAMPLE_COM_NIC-1"

func TestAllocate(t *testing.T) {
	t.Parallel()
	vfio := same("/dev/vfio/vfio")
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, root string)
		pool    string
		ids     []string
		nodes   []allocation.Node
		info    string
	}{
		"kernel driver": {
			pool: `"selectors": {"drivers": ["iavf"]}`, ids: []string{testhost.VF0},
			info: `{"0000:01:02.0":{"generic":{"deviceID":"0000:01:02.0"}}}`,
		},
		"VFIO, also without an IOMMU": {
			pool: `"selectors": {"drivers": ["vfio-pci"]}`, ids: []string{testhost.VF1, testhost.VF2},
			nodes: []allocation.Node{vfio, same("/dev/vfio/21"), {Host: "/dev/vfio/noiommu-22", Container: "/dev/vfio/22"}},
			info: `{"0000:01:02.1":{"generic":{"deviceID":"0000:01:02.1"},"vfio":{"dev-mount":"/dev/vfio/21","mount":"/dev/vfio/vfio"}},` +
				`"0000:01:02.2":{"generic":{"deviceID":"0000:01:02.2"},"vfio":{"dev-mount":"/dev/vfio/22","mount":"/dev/vfio/vfio"}}}`,
		},
		"in the order asked for": {
			pool: `"selectors": {"pfNames": ["pf0"]}`, ids: []string{testhost.VF3, testhost.VF0},
			nodes: []allocation.Node{same("/dev/uio3")},
			info: `{"0000:01:02.0":{"generic":{"deviceID":"0000:01:02.0"}},` +
				`"0000:01:02.3":{"generic":{"deviceID":"0000:01:02.3"},"uio":{"mount":"/dev/uio3"}}}`,
		},
		"vhost-net": {
			pool: `"selectors": {"drivers": ["iavf"], "needVhostNet": true}`, ids: []string{testhost.VF0},
			nodes: []allocation.Node{same("/dev/vhost-net"), same("/dev/net/tun")},
			info:  `{"0000:01:02.0":{"generic":{"deviceID":"0000:01:02.0"},"vhost":{"net-mount":"/dev/vhost-net","tun-mount":"/dev/net/tun"}}}`,
		},
		"vhost-net without tun": {
			prepare: func(t *testing.T, root string) { require.NoError(t, os.Remove(filepath.Join(root, "dev/net/tun"))) },
			pool:    `"selectors": {"drivers": ["iavf"], "needVhostNet": true}`, ids: []string{testhost.VF0},
			nodes: []allocation.Node{same("/dev/vhost-net")},
			info:  `{"0000:01:02.0":{"generic":{"deviceID":"0000:01:02.0"},"vhost":{"net-mount":"/dev/vhost-net"}}}`,
		},
		"RDMA": {
			prepare: func(t *testing.T, root string) { testhost.RDMA(t, root, testhost.VF0, "mlx5_2", 2) },
			pool:    `"selectors": {"isRdma": true}`, ids: []string{testhost.VF0},
			nodes: []allocation.Node{
				same("/dev/infiniband/issm2"), same("/dev/infiniband/umad2"), same("/dev/infiniband/uverbs2"), same("/dev/infiniband/rdma_cm"),
			},
			info: `{"0000:01:02.0":{"generic":{"deviceID":"0000:01:02.0"},"rdma":{"issm":"/dev/infiniband/issm2","rdma_cm":"/dev/infiniband/rdma_cm",` +
				`"rdma_dev":"mlx5_2","umad":"/dev/infiniband/umad2","uverbs":"/dev/infiniband/uverbs2"}}}`,
		},
		"accelerator": {
			pool: `"deviceType": "accelerator", "selectors": {}`, ids: []string{testhost.Accel},
			nodes: []allocation.Node{vfio, same("/dev/vfio/40")},
			info:  `{"0000:03:00.0":{"generic":{"deviceID":"0000:03:00.0"},"vfio":{"dev-mount":"/dev/vfio/40","mount":"/dev/vfio/vfio"}}}`,
		},
		"additional information": {
			prepare: func(t *testing.T, root string) { testhost.SF(t, root, testhost.PF, "mlx5_core.sf.2", 1) },
			pool: `"deviceType": "auxNetDevice", "selectors": {"auxTypes": ["sf"]},
				"additionalInfo": {"*": {"a": "all", "b": "all", "c": "all"}, "01:00.0": {"b": "parent", "c": "parent"}, "mlx5_core.sf.2": {"c": "self"}}`,
			ids:  []string{"mlx5_core.sf.2"},
			info: `{"mlx5_core.sf.2":{"extra":{"a":"all","b":"parent","c":"self"},"generic":{"deviceID":"mlx5_core.sf.2"}}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := testhost.New(t)
			if tc.prepare != nil {
				tc.prepare(t, root)
			}
			got, err := allocator(t, root, tc.pool).Allocate(tc.ids)
			require.NoError(t, err)
			require.Equal(t, tc.nodes, got.Nodes)
			require.Equal(t, tc.info, got.Env[envName+"_INFO"])
			want := tc.ids[0]
			for _, id := range tc.ids[1:] {
				want += "," + id
			}
			require.Equal(t, want, got.Env[envName])
			require.Len(t, got.Env, 2)
		})
	}
}

func TestAllocateRefuses(t *testing.T) {
	t.Parallel()
	root := testhost.New(t)
	for name, tc := range map[string]struct {
		damage func()
		pool   string
		id     string
		want   error
	}{
		"unknown device":      {func() {}, `"selectors": {}`, "0000:99:00.0", allocation.ErrUnknownDevice},
		"unknown accelerator": {func() {}, `"deviceType": "accelerator", "selectors": {}`, testhost.VF0, allocation.ErrUnknownDevice},
		"VFIO without a group": {func() {
			require.NoError(t, os.Remove(filepath.Join(root, "sys/bus/pci/devices", testhost.VF1, "iommu_group")))
		},
			`"selectors": {}`, testhost.VF1, allocation.ErrNoNode},
	} {
		t.Run(name, func(t *testing.T) {
			a := allocator(t, root, tc.pool)
			tc.damage()
			got, err := a.Allocate([]string{tc.id})
			require.ErrorIs(t, err, tc.want)
			require.Zero(t, got)
			require.NoDirExists(t, a.DeviceInfo)
		})
	}
}

func TestDriverIsLookedUpWhenAsked(t *testing.T) {
	t.Parallel()
	root := testhost.New(t)
	a := allocator(t, root, `"selectors": {"pfNames": ["pf0#1"]}`)
	testhost.Link(t, root, "sys/bus/pci/devices/"+testhost.VF1+"/iommu_group", "../../../../kernel/iommu_groups/77")
	got, err := a.Allocate([]string{testhost.VF1})
	require.NoError(t, err)
	require.Contains(t, got.Nodes, same("/dev/vfio/77"))
}

func TestVDPA(t *testing.T) {
	t.Parallel()
	root := testhost.New(t)
	dir := "sys/bus/pci/devices/" + testhost.VF0 + "/vdpa0"
	testhost.Link(t, root, "sys/bus/vdpa/devices/vdpa0", "../../pci/devices/"+testhost.VF0+"/vdpa0")
	testhost.Link(t, root, dir+"/driver", "../../../../vdpa/drivers/vhost_vdpa")
	testhost.Write(t, root, dir+"/vhost-vdpa-3/dev", "250:3")
	a := allocator(t, root, `"selectors": {"vdpaType": "vhost"}`)
	got, err := a.Allocate([]string{testhost.VF0})
	require.NoError(t, err)
	require.Equal(t, []allocation.Node{same("/dev/vhost-vdpa-3")}, got.Nodes)
	require.JSONEq(t, `{"0000:01:02.0":{"generic":{"deviceID":"0000:01:02.0"},"vdpa":{"mount":"/dev/vhost-vdpa-3"}}}`, got.Env[envName+"_INFO"])
	require.JSONEq(t, `{"type":"vdpa","version":"1.1.0","vdpa":{"parent-device":"vdpa0","driver":"vhost","path":"/dev/vhost-vdpa-3",
		"pci-address":"0000:01:02.0","pf-pci-address":"0000:01:00.0"}}`, string(deviceInfo(t, a, testhost.VF0)))
}

func deviceInfo(t *testing.T, a allocation.Allocator, id string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(a.DeviceInfo, "example.com-nic-1-"+id+"-device.json"))
	require.NoError(t, err)
	return data
}

func TestDeviceInfo(t *testing.T) {
	old := syscall.Umask(0o077) // not parallel: of the whole process
	defer syscall.Umask(old)
	root := testhost.New(t)
	testhost.RDMA(t, root, testhost.VF0, "mlx5_2", 2)
	a := allocator(t, root, `"selectors": {"isRdma": true}`)
	for range 2 { // it replaces what an earlier pod left
		_, err := a.Allocate([]string{testhost.VF0})
		require.NoError(t, err)
	}
	require.JSONEq(t, `{"type":"pci","version":"1.1.0","pci":{"pci-address":"0000:01:02.0","pf-pci-address":"0000:01:00.0","rdma-device":"mlx5_2"}}`,
		string(deviceInfo(t, a, testhost.VF0)))
	files, err := os.ReadDir(a.DeviceInfo)
	require.NoError(t, err)
	require.Len(t, files, 1, "no temporary file is left")
	info, err := files[0].Info()
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o444), info.Mode())
	for _, dir := range []string{a.DeviceInfo, filepath.Dir(a.DeviceInfo)} {
		info, err := os.Stat(dir)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o755), info.Mode().Perm(), "%s is read by others", dir)
	}
}

func TestInfoFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{
		"example.com-nic-0000:01:02.0-device.json", "example.com-nic-2-0000:01:02.2-device.json",
		"example.com-nic-mlx5_core.sf.4-device.json", "example.com-nic-0000:01:02.0.json", "other-device.json",
	} {
		testhost.Write(t, dir, name, "{}")
	}
	files, err := allocation.InfoFiles(dir)
	require.NoError(t, err)
	var of []string
	for _, f := range files {
		if f.Of(config.Resource{Prefix: "example.com", Name: "nic"}) {
			of = append(of, f.Device)
		}
		require.True(t, f.OfPrefix("example.com"))
		require.False(t, f.OfPrefix("example"))
	}
	require.Equal(t, []string{testhost.VF0, "mlx5_core.sf.4"}, of)
	require.Len(t, files, 3)
	none, err := allocation.InfoFiles(filepath.Join(dir, "missing"))
	require.NoError(t, err)
	require.Empty(t, none)
}

// What an Allocate call and a look cost does not grow with the square of the devices.
func TestRDMAIsListedOncePerLook(t *testing.T) {
	t.Parallel()
	root, path := testhost.New(t), t.TempDir()
	testhost.RDMA(t, root, testhost.VF0, "mlx5_2", 2)
	testhost.RDMA(t, root, testhost.VF1, "mlx5_3", 3)
	a := allocator(t, root, `"selectors": {"isRdma": true, "drivers": ["iavf"]}`)
	a.Host.RDMA = &allocation.RDMACache{}
	dir := allocation.OpenCDI(path)
	a.CDI = dir
	_, err := a.Allocate([]string{testhost.VF0})
	require.NoError(t, err)
	require.NotNil(t, a.Host.RDMA.Load())
	// From now on it is not listed: an entry that cannot be read would be noticed.
	require.NoError(t, os.MkdirAll(filepath.Join(root, "sys/class/infiniband_verbs/uverbs9/ibdev"), 0o755))
	got, err := a.Allocate([]string{testhost.VF0})
	require.NoError(t, err)
	require.Equal(t, qualified(testhost.VF0), got.CDI)
}

// A device whose driver was taken away a moment ago is refused, not given without its nodes.
func TestAllocateAfterTheDriverLeft(t *testing.T) {
	t.Parallel()
	for name, driver := range map[string]string{"unbound": "", "rebound to one that is not selected": "iavf"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := testhost.New(t)
			a := allocator(t, root, `"selectors": {"drivers": ["vfio-pci"]}`)
			testhost.Function(t, root, testhost.VF1, "20000", "8086:154C", driver, 0)
			_, err := a.Allocate([]string{testhost.VF1})
			require.ErrorIs(t, err, allocation.ErrNoNode)
		})
	}
}
