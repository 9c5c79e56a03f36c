// SPDX-License-Identifier: Apache-2.0

package prepare

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/allocation"
	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/sriovkit/sriovkit/device-plugin/dra/vfconfig"
	"github.com/sriovkit/sriovkit/device-plugin/internal/testhost"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/stretchr/testify/require"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

const driver = "sriovnetwork.k8snetworkplumbingwg.io"

// kernel stands in for the kernel's part of binding drivers on a generated host.
type kernel struct {
	*libsriov.Host
	t      testing.TB
	root   string
	refuse error
}

func (k *kernel) set(a libsriov.Address, driver string) error {
	if k.refuse != nil {
		return k.refuse
	}
	link := filepath.Join(k.root, "sys/bus/pci/devices", a.String(), "driver")
	_ = os.Remove(link)
	return os.Symlink("../../drivers/"+driver, link)
}

func (k *kernel) BindDriver(_ context.Context, a libsriov.Address, driver string) error {
	if _, err := os.Stat(filepath.Join(k.root, "sys/bus/pci/drivers", driver)); err != nil {
		return fmt.Errorf("bind %s to %s: %w", a, driver, libsriov.ErrNoDriver)
	}
	return k.set(a, driver)
}

func (k *kernel) ResetDriver(_ context.Context, a libsriov.Address) error { return k.set(a, "iavf") }

// node is a generated host with two pools: "nic" of VF0 and "dpdk" of VF1 and VF2.
type node struct {
	*Preparer
	kernel *kernel
	held   map[string]config.Resource
	given  map[string]config.Resource // by the inventory, to claims
	root   string
}

func newNode(t testing.TB) *node {
	t.Helper()
	root := testhost.New(t)
	h, err := libsriov.Open(root)
	require.NoError(t, err)
	cfg, err := config.Parse([]byte(`{"resourceList": [
		{"resourceName": "nic", "selectors": {"drivers": ["iavf"]}},
		{"resourceName": "dpdk", "selectors": {"drivers": ["vfio-pci"]}}]}`), "example.com")
	require.NoError(t, err)
	devices, err := pool.Read(pool.Source{Host: h}, pool.NeedsOf(cfg.Pools))
	require.NoError(t, err)
	members := map[string]pool.Member{}
	pools := map[string]config.Pool{}
	for i, in := range pool.Assign(devices, cfg.Pools, nil).Members {
		for _, m := range in {
			members[m.ID], pools[m.ID] = m, cfg.Pools[i]
		}
	}
	n := &node{root: root, kernel: &kernel{Host: h, t: t, root: root}, held: map[string]config.Resource{}, given: map[string]config.Resource{}}
	n.Preparer = &Preparer{
		Driver: driver, Node: "node-1", BootID: "boot-1", BindDrivers: true,
		Store: record.Store{Dir: filepath.Join(root, "state/claims")},
		Host:  allocation.Host{Host: h, DevRoot: root}, Drivers: n.kernel,
		CDIDir: filepath.Join(root, "run/cdi"), DeviceInfoDir: filepath.Join(root, "run/devinfo"), MetadataDir: filepath.Join(root, "state"),
		Lookup: func(id string) (config.Pool, pool.Member, bool) {
			m, ok := members[id]
			return pools[id], m, ok
		},
		Give: func(r config.Resource, ids []string) (func(), error) {
			for _, id := range ids {
				n.given[id] = r
			}
			return func() { n.Return(ids) }, nil
		},
		Return: func(ids []string) {
			for _, id := range ids {
				delete(n.given, id)
			}
		},
		Holders: func(context.Context) (map[string]config.Resource, error) { return n.held, nil },
	}
	return n
}

const uid types.UID = "2f0a2b1e-5d4c-4a56-9a5e-2f4d1c0b9a87"

// claim makes an allocated claim: request -> devices, e.g. "vf: 0000:01:02.0".
func claim(allocated ...string) *resourceapi.ResourceClaim {
	c := &resourceapi.ResourceClaim{}
	c.Namespace, c.Name, c.UID = "team", "vf", uid
	c.Status.ReservedFor = []resourceapi.ResourceClaimConsumerReference{{Resource: "pods", Name: "pod", UID: "p1"}}
	c.Status.Allocation = &resourceapi.AllocationResult{}
	for _, a := range allocated {
		request, ids, _ := strings.Cut(a, ": ")
		for id := range strings.FieldsSeq(ids) {
			c.Status.Allocation.Devices.Results = append(c.Status.Allocation.Devices.Results, resourceapi.DeviceRequestAllocationResult{
				Request: request, Driver: driver, Pool: "node-1", Device: pool.DRAName(id),
			})
		}
	}
	return c
}

// with adds parameters for all requests.
func with(c *resourceapi.ResourceClaim, members string) *resourceapi.ResourceClaim {
	c.Status.Allocation.Devices.Config = append(c.Status.Allocation.Devices.Config, resourceapi.DeviceAllocationConfiguration{
		Source: resourceapi.AllocationConfigSourceClaim,
		DeviceConfiguration: resourceapi.DeviceConfiguration{Opaque: &resourceapi.OpaqueDeviceConfiguration{
			Driver:     driver,
			Parameters: runtime.RawExtension{Raw: []byte(`{"apiVersion": "` + vfconfig.APIVersion + `", "kind": "VfConfig", ` + members + `}`)},
		}},
	})
	return c
}

// container is what a runtime makes of CDI devices.
func (n *node) container(t testing.TB, ids ...string) (env, nodes []string) {
	t.Helper()
	cache, err := cdi.NewCache(cdi.WithSpecDirs(n.CDIDir), cdi.WithAutoRefresh(false))
	require.NoError(t, err)
	require.Empty(t, cache.GetErrors())
	for _, id := range ids {
		d := cache.GetDevice(id)
		require.NotNil(t, d, "%s is none of %v", id, cache.ListDevices())
		env = append(env, d.ContainerEdits.Env...)
		for _, n := range d.ContainerEdits.DeviceNodes {
			nodes = append(nodes, n.Path)
		}
	}
	return env, nodes
}

// state is everything that a claim can leave on the host, by path.
func (n *node) state(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{"given": fmt.Sprint(n.given)}
	for _, dir := range []string{n.Store.Dir, n.CDIDir, n.DeviceInfoDir} {
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				data, err := os.ReadFile(path)
				require.NoError(t, err)
				out[path] = string(data)
			}
			return nil
		})
	}
	for _, vf := range []string{testhost.VF0, testhost.VF1, testhost.VF2} {
		link, err := os.Readlink(filepath.Join(n.root, "sys/bus/pci/devices", vf, "driver"))
		require.NoError(t, err)
		out[vf] = filepath.Base(link)
	}
	return out
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		claim      *resourceapi.ResourceClaim
		cdi        []string // by device
		env, nodes []string
	}{
		"netdevice": {
			claim("vf: " + testhost.VF0), []string{driver + "/vf=" + string(uid) + "_vf"},
			[]string{
				"PCIDEVICE_EXAMPLE_COM_NIC=0000:01:02.0", `PCIDEVICE_EXAMPLE_COM_NIC_INFO={"0000:01:02.0":{"generic":{"deviceID":"0000:01:02.0"}}}`,
				"SRIOVNETWORK_VF_DEVICE_0000_01_02_0=0000:01:02.0",
			}, nil,
		},
		"VFIO, bound by an administrator": {
			claim("vf: " + testhost.VF1), []string{driver + "/vf=" + string(uid) + "_vf"},
			[]string{
				"PCIDEVICE_EXAMPLE_COM_DPDK=0000:01:02.1",
				`PCIDEVICE_EXAMPLE_COM_DPDK_INFO={"0000:01:02.1":{"generic":{"deviceID":"0000:01:02.1"},"vfio":{"dev-mount":"/dev/vfio/21","mount":"/dev/vfio/vfio"}}}`,
				"SRIOVNETWORK_VF_DEVICE_0000_01_02_1=0000:01:02.1",
			}, []string{"/dev/vfio/vfio", "/dev/vfio/21"},
		},
		"two devices of a request, and a network": {
			with(claim("vf: "+testhost.VF1+" "+testhost.VF2), `"netAttachDefName": "blue", "addVhostMount": true`),
			[]string{driver + "/vf=" + string(uid) + "_vf", ""},
			[]string{
				"PCIDEVICE_EXAMPLE_COM_DPDK=0000:01:02.1,0000:01:02.2",
				`PCIDEVICE_EXAMPLE_COM_DPDK_INFO={"0000:01:02.1":{"generic":{"deviceID":"0000:01:02.1"},"vfio":{"dev-mount":"/dev/vfio/21","mount":"/dev/vfio/vfio"},"vhost":{"net-mount":"/dev/vhost-net","tun-mount":"/dev/net/tun"}},` +
					`"0000:01:02.2":{"generic":{"deviceID":"0000:01:02.2"},"vfio":{"dev-mount":"/dev/vfio/22","mount":"/dev/vfio/vfio"},"vhost":{"net-mount":"/dev/vhost-net","tun-mount":"/dev/net/tun"}}}`,
				"SRIOVNETWORK_VF_DEVICE_0000_01_02_1=0000:01:02.1", "SRIOVNETWORK_VF_DEVICE_0000_01_02_2=0000:01:02.2",
				"SRIOVNETWORK_NET_ATTACH_DEF_NAME=blue",
			}, []string{"/dev/vfio/vfio", "/dev/vfio/21", "/dev/vhost-net", "/dev/net/tun", "/dev/vfio/22"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			clean := n.state(t)
			got := n.Prepare(t.Context(), tc.claim)
			require.NoError(t, got.Err)
			var ids []string
			for i, d := range got.Devices {
				require.Equal(t, "node-1", d.PoolName)
				require.Equal(t, []string{"vf"}, d.Requests)
				require.Equal(t, tc.claim.Status.Allocation.Devices.Results[i].Device, d.DeviceName)
				require.Contains(t, d.Metadata.Attributes, "resource.kubernetes.io/pciBusID")
				ids = append(ids, strings.Join(d.CDIDeviceIDs, ","))
			}
			require.Equal(t, tc.cdi, ids)
			env, nodes := n.container(t, ids[0])
			require.Equal(t, tc.env, env)
			require.Equal(t, tc.nodes, nodes)
			for _, d := range tc.claim.Status.Allocation.Devices.Results {
				id, _ := pool.DeviceID(d.Device)
				in, _, _ := n.Lookup(id)
				require.FileExists(t, filepath.Join(n.DeviceInfoDir, allocation.DeviceInfoName(in.Resource, id)))
			}

			prepared := n.state(t)
			require.Equal(t, got, n.Prepare(t.Context(), tc.claim), "the same again")
			require.Equal(t, prepared, n.state(t))

			require.NoError(t, n.Unprepare(t.Context(), uid))
			require.Equal(t, clean, n.state(t))
			require.NoError(t, n.Unprepare(t.Context(), uid), "nothing is known of it")
		})
	}
}

func TestVariablesOfSeveralRequests(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ extended, a, b string }{
		"a claim's requests together":      {"", testhost.VF1 + "," + testhost.VF2, testhost.VF1 + "," + testhost.VF2},
		"each container of extended alone": {"true", testhost.VF1, testhost.VF2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			c := claim("a: "+testhost.VF1, "b: "+testhost.VF2)
			c.Annotations = map[string]string{annotationExtendedResource: tc.extended}
			got := n.Prepare(t.Context(), c)
			require.NoError(t, got.Err)
			for i, want := range []string{tc.a, tc.b} {
				env, nodes := n.container(t, got.Devices[i].CDIDeviceIDs...)
				require.Contains(t, env, "PCIDEVICE_EXAMPLE_COM_DPDK="+want)
				require.Len(t, nodes, 2, "its own device's nodes, whatever the variables list")
			}
		})
	}
}

func TestAdminAccessLooksOnly(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	require.NoError(t, n.Prepare(t.Context(), claim("vf: "+testhost.VF1)).Err)
	before := n.state(t)
	look := claim("look: " + testhost.VF1)
	look.UID = "11111111-5d4c-4a56-9a5e-2f4d1c0b9a87"
	yes := true
	look.Status.Allocation.Devices.Results[0].AdminAccess = &yes
	got := n.Prepare(t.Context(), with(look, `"driver": "default"`))
	require.NoError(t, got.Err)
	require.Empty(t, got.Devices[0].CDIDeviceIDs)
	require.Contains(t, got.Devices[0].Metadata.Attributes, "resource.kubernetes.io/pciBusID")
	require.NoError(t, n.Unprepare(t.Context(), look.UID))
	require.Equal(t, before, n.state(t), "the user's files and driver are untouched")
}

func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(n *node, c *resourceapi.ResourceClaim)
		want   string
		is     error
	}{
		"not allocated": {func(_ *node, c *resourceapi.ResourceClaim) { c.Status.Allocation = nil }, "is not allocated", nil},
		"no consumer":   {func(_ *node, c *resourceapi.ResourceClaim) { c.Status.ReservedFor = nil }, "reserved for 0 consumers", nil},
		"two pods": {func(_ *node, c *resourceapi.ResourceClaim) {
			c.Status.ReservedFor = append(c.Status.ReservedFor, c.Status.ReservedFor[0])
		}, "a VF belongs to one pod", nil},
		"not a pod":    {func(_ *node, c *resourceapi.ResourceClaim) { c.Status.ReservedFor[0].Resource = "jobs" }, "want a pod", nil},
		"another node": {func(_ *node, c *resourceapi.ResourceClaim) { c.Status.Allocation.Devices.Results[0].Pool = "node-2" }, `this node's pool is "node-1"`, nil},
		"gone": {func(_ *node, c *resourceapi.ResourceClaim) {
			c.Status.Allocation.Devices.Results[0].Device = "0000-09-02-1"
		}, "0000:09:02.1", ErrNoDevice},
		"a pod has it": {func(n *node, _ *resourceapi.ResourceClaim) {
			n.held[testhost.VF1] = config.Resource{Prefix: "example.com", Name: "dpdk"}
		}, "example.com/dpdk", ErrInUse},
		"kubelet is silent": {func(n *node, _ *resourceapi.ResourceClaim) {
			n.Holders = func(context.Context) (map[string]config.Resource, error) { return nil, errors.New("no answer") }
		}, "it is not known which devices pods hold: no answer", nil},
		"another claim has it": {func(n *node, _ *resourceapi.ResourceClaim) {
			other := claim("vf: " + testhost.VF1)
			other.UID, other.Name = "11111111-0000-0000-0000-000000000000", "other"
			require.NoError(n.kernel.t, n.Prepare(context.Background(), other).Err)
		}, "claim team/other has it for pod pod", ErrInUse},
		"a record is unreadable": {func(n *node, _ *resourceapi.ResourceClaim) {
			testhost.Write(n.kernel.t, n.root, "state/claims/22222222-0000-0000-0000-000000000000.json", "{")
		}, "remove ", record.ErrUnreadable},
		"unknown key":         {func(_ *node, c *resourceapi.ResourceClaim) { with(c, `"drivr": "x"`) }, `request vf, parameters of the claim: unknown field "drivr"`, nil},
		"driver that is none": {func(_ *node, c *resourceapi.ResourceClaim) { with(c, `"driver": "vfoi"`) }, `driver "vfoi"`, libsriov.ErrNoDriver},
		"binding is off": {func(n *node, c *resourceapi.ResourceClaim) {
			with(c, `"driver": "default"`)
			n.BindDrivers = false
		}, "-bind-drivers", nil},
		"the kernel refuses": {func(n *node, c *resourceapi.ResourceClaim) {
			with(c, `"driver": "default"`)
			n.kernel.refuse = errors.New("device or resource busy")
		}, "device or resource busy", nil},
		"the inventory has moved on": {func(n *node, _ *resourceapi.ResourceClaim) {
			n.Give = func(config.Resource, []string) (func(), error) { return nil, errors.New("not offered") }
		}, "request vf: not offered", nil},
		"no IOMMU group": {func(n *node, _ *resourceapi.ResourceClaim) {
			require.NoError(n.kernel.t, os.Remove(filepath.Join(n.root, "sys/bus/pci/devices", testhost.VF1, "iommu_group")))
		}, testhost.VF1, allocation.ErrNoNode},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			c := claim("vf: " + testhost.VF1)
			tc.change(n, c)
			before := n.state(t)
			got := n.Prepare(t.Context(), c)
			require.ErrorContains(t, got.Err, tc.want)
			require.ErrorContains(t, got.Err, "claim team/vf")
			if tc.is != nil {
				require.ErrorIs(t, got.Err, tc.is)
			}
			require.Empty(t, got.Devices)
			n.kernel.refuse = nil
			require.Equal(t, before, n.state(t), "nothing is half done")
		})
	}
}

// While the driver was away the device manager gave a device of a claim to a pod. What is
// taken back leaves that pod its file and its driver.
func TestUnprepareLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	testhost.Link(t, n.root, "sys/bus/pci/devices/"+testhost.VF0+"/iommu_group", "../../../../kernel/iommu_groups/20")
	require.NoError(t, n.Prepare(t.Context(), with(claim("a: "+testhost.VF0), `"driver": "vfio-pci"`)).Err)
	in, _, _ := n.Lookup(testhost.VF0)
	info := filepath.Join(n.DeviceInfoDir, allocation.DeviceInfoName(in.Resource, testhost.VF0))
	n.held[testhost.VF0] = in.Resource
	require.NoError(t, n.Unprepare(t.Context(), uid))
	require.Equal(t, "vfio-pci", n.state(t)[testhost.VF0])
	require.FileExists(t, info)
	none, err := n.Store.Load(uid)
	require.NoError(t, err)
	require.Nil(t, none)

	n.Holders = func(context.Context) (map[string]config.Resource, error) { return nil, errors.New("no answer") }
	n.held = map[string]config.Resource{}
	require.NoError(t, n.Store.Save(record.Claim{UID: uid, Prepared: true}))
	require.ErrorContains(t, n.Unprepare(t.Context(), uid), "it is not known which devices pods hold: no answer")
}

func TestForeignDevicesAreIgnored(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := claim("gpu: 0000:09:00.0", "vf: "+testhost.VF0)
	c.Status.Allocation.Devices.Results[0].Driver = "gpu.example.com"
	got := n.Prepare(t.Context(), c)
	require.NoError(t, got.Err)
	require.Len(t, got.Devices, 1)
	require.Equal(t, []string{"vf"}, got.Devices[0].Requests)
}

func TestDriverOnRequest(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	testhost.Link(t, n.root, "sys/bus/pci/devices/"+testhost.VF0+"/iommu_group", "../../../../kernel/iommu_groups/20")
	clean := n.state(t)
	c := with(claim("net: "+testhost.VF0, "dpdk: "+testhost.VF1), `"driver": "vfio-pci"`)
	got := n.Prepare(t.Context(), c)
	require.NoError(t, got.Err)
	require.Equal(t, "vfio-pci", n.state(t)[testhost.VF0])
	_, nodes := n.container(t, got.Devices[0].CDIDeviceIDs...)
	require.Equal(t, []string{"/dev/vfio/vfio", "/dev/vfio/20"}, nodes, "of the driver that is bound now")

	// A reboot: the kernel's own choice again, and /run is empty.
	prepared := n.state(t)
	require.NoError(t, n.kernel.set(libsriov.Address{Bus: 1, Device: 2}, "iavf"))
	require.NoError(t, os.RemoveAll(filepath.Join(n.root, "run")))
	n.BootID = "boot-2"
	pending, err := n.Restore(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, pending)
	n.container(t, driver+"/metadata="+string(uid)+"_net")
	require.NoError(t, n.RemoveMetadata(record.Claim{UID: uid, Namespace: "team", Name: "vf", Requests: []record.Request{{Name: "net"}, {Name: "dpdk"}}}))
	again := n.state(t)
	for path, text := range prepared {
		require.Equal(t, strings.ReplaceAll(text, "boot-1", "boot-2"), again[path], path)
	}

	require.NoError(t, n.Unprepare(t.Context(), uid))
	require.Equal(t, clean, n.state(t))
}

func TestRestoreWaitsForHardware(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	require.NoError(t, n.Prepare(t.Context(), claim("vf: "+testhost.VF0)).Err)
	lookup := n.Lookup
	n.Lookup = func(string) (config.Pool, pool.Member, bool) { return config.Pool{}, pool.Member{}, false }
	pending, err := n.Restore(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, pending, 1)
	n.Lookup = lookup
	pending, err = n.Restore(t.Context(), pending)
	require.NoError(t, err)
	require.Empty(t, pending)
}

// After a reboot the device manager may have come first: its pod keeps the device and its
// driver, and the claim waits.
func TestRestoreAsksWhoHasTheDevice(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.BindDrivers = true
	require.NoError(t, n.Prepare(t.Context(), with(claim("vf: "+testhost.VF1), `"driver": "iavf"`)).Err)
	n.BootID = "boot-2"
	a, err := libsriov.ParseAddress(testhost.VF1)
	require.NoError(t, err)
	require.NoError(t, n.kernel.set(a, "vfio-pci"))
	before := n.state(t)
	n.held = map[string]config.Resource{testhost.VF1: {Prefix: "example.com", Name: "dpdk"}}
	left, err := n.Restore(t.Context(), nil)
	require.ErrorIs(t, err, ErrInUse)
	require.Len(t, left, 1)
	ask := n.Holders
	n.Holders = func(context.Context) (map[string]config.Resource, error) { return nil, errors.New("no answer") }
	left, err = n.Restore(t.Context(), left)
	require.ErrorContains(t, err, "no answer")
	require.Len(t, left, 1)
	require.Equal(t, before, n.state(t))
	n.Holders, n.held = ask, nil
	left, err = n.Restore(t.Context(), left)
	require.NoError(t, err)
	require.Empty(t, left)
	require.Equal(t, "iavf", n.state(t)[testhost.VF1])
}

// A claim that outlives its pod is the next pod's: the record names whose it is.
func TestPrepareForAnotherPod(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := claim("vf: " + testhost.VF0)
	require.NoError(t, n.Prepare(t.Context(), c).Err)
	c.Status.ReservedFor[0].Name, c.Status.ReservedFor[0].UID = "next", "p2"
	require.NoError(t, n.Prepare(t.Context(), c).Err)
	r, err := n.Store.Load(uid)
	require.NoError(t, err)
	require.Equal(t, record.Pod{UID: "p2", Name: "next"}, r.Pod)
	require.True(t, r.Prepared)
}

// While one claim waits for its device, the others are let be: the runtime reads all
// specifications again for each that is written.
func TestRestoreTouchesNothingThatIsWhole(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	require.NoError(t, n.Prepare(t.Context(), claim("vf: "+testhost.VF0)).Err)
	other := claim("vf: " + testhost.VF1)
	other.UID = "7c1d2e3f-5d4c-4a56-9a5e-2f4d1c0b9a87"
	require.NoError(t, n.Prepare(t.Context(), other).Err)
	whole, err := os.Stat(n.specPath(record.Claim{UID: uid}))
	require.NoError(t, err)
	lookup := n.Lookup
	asked := 0
	n.Lookup = func(id string) (config.Pool, pool.Member, bool) {
		if id == testhost.VF1 {
			return config.Pool{}, pool.Member{}, false
		}
		asked++
		return lookup(id)
	}
	left, err := n.Restore(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.NotZero(t, asked)
	asked = 0
	left, err = n.Restore(t.Context(), left)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Zero(t, asked, "the other claim is not looked at again")
	now, err := os.Stat(n.specPath(record.Claim{UID: uid}))
	require.NoError(t, err)
	require.True(t, os.SameFile(whole, now), "nor are its files written")
}

// A claim waits for what was withdrawn to be known, and a node that has gone back to the
// device plugin prepares no more; both are before anything is done.
func TestPremiseOfPrepare(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	clean := n.state(t)
	n.Settled = func(context.Context) error { return errors.New("behind") }
	require.ErrorContains(t, n.Prepare(t.Context(), claim("vf: "+testhost.VF0)).Err, "claim team/vf: behind")
	n.Settled, n.Takes = nil, func() error { return errors.New("left") }
	require.ErrorContains(t, n.Prepare(t.Context(), claim("vf: "+testhost.VF0)).Err, "claim team/vf: left")
	require.Equal(t, clean, n.state(t))
}

// The process ends between any two changes of Prepare or of Unprepare. What kubelet does
// then, one or the other again, ends with a pod that runs or with all as before.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	c := with(claim("a: "+testhost.VF0, "b: "+testhost.VF1), `"driver": "vfio-pci"`)
	for _, first := range []string{"prepare", "unprepare"} {
		for _, then := range []string{"prepare", "unprepare"} {
			steps := 0
			for last := false; !last && !t.Failed(); steps++ {
				t.Run(fmt.Sprintf("%s ends after step %d, then %s", first, steps, then), func(t *testing.T) {
					n := newNode(t)
					testhost.Link(t, n.root, "sys/bus/pci/devices/"+testhost.VF0+"/iommu_group", "../../../../kernel/iommu_groups/20")
					clean := n.state(t)
					call := map[string]func() error{
						"prepare":   func() error { return n.Prepare(t.Context(), c).Err },
						"unprepare": func() error { return n.Unprepare(t.Context(), uid) },
					}
					if first == "unprepare" {
						require.NoError(t, call["prepare"]())
					}
					left := steps
					n.step = func(string) error {
						if left--; left < 0 {
							return errKilled
						}
						return nil
					}
					err := call[first]()
					last = err == nil
					if !last {
						require.ErrorIs(t, err, errKilled)
					}
					n.step = nil
					clear(n.given) // the process's memory
					require.NoError(t, call[then]())
					if then == "prepare" {
						_, nodes := n.container(t, driver+"/vf="+string(uid)+"_a")
						require.Len(t, nodes, 2)
						require.NoError(t, n.Unprepare(t.Context(), uid))
					}
					require.Equal(t, clean, n.state(t))
				})
			}
			require.Greater(t, steps, 2, "%s has steps", first)
		}
	}
}

func BenchmarkPrepareUnprepare(b *testing.B) {
	n := newNode(b)
	c := claim("vf: " + testhost.VF1)
	for b.Loop() {
		require.NoError(b, n.Prepare(b.Context(), c).Err)
		require.NoError(b, n.Unprepare(b.Context(), uid))
	}
}
