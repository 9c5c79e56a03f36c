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
	devices, err := pool.Read(pool.Source{Host: h}, config.NeedsOf(cfg.Pools))
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

// Any number of pods may look at devices, whoever has them; the claim's record is that of one.
func TestManyLook(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	require.NoError(t, n.Prepare(t.Context(), claim("vf: "+testhost.VF1)).Err)
	clean := n.state(t)
	look := claim("a: "+testhost.VF0+" "+testhost.VF1, "b: "+testhost.VF1)
	look.UID = "11111111-5d4c-4a56-9a5e-2f4d1c0b9a87"
	for i := range look.Status.Allocation.Devices.Results {
		look.Status.Allocation.Devices.Results[i].AdminAccess = new(true)
	}
	look.Status.ReservedFor = append(look.Status.ReservedFor, resourceapi.ResourceClaimConsumerReference{Resource: "pods", Name: "other", UID: "p2"})
	for range 2 {
		got := n.Prepare(t.Context(), look)
		require.NoError(t, got.Err)
		require.Len(t, got.Devices, 3)
		for _, d := range got.Devices {
			require.Empty(t, d.CDIDeviceIDs)
		}
	}
	require.NoError(t, n.Unprepare(t.Context(), look.UID))
	require.Equal(t, clean, n.state(t))
}

// A pool's selectors allow what claims may otherwise not ask for.
func TestDriverThatThePoolNames(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	require.NoError(t, os.MkdirAll(filepath.Join(n.root, "sys/bus/pci/drivers/uio_pci_generic"), 0o755))
	lookup := n.Lookup
	n.Lookup = func(id string) (config.Pool, pool.Member, bool) {
		p, m, ok := lookup(id)
		m.Selector.Drivers = append(m.Selector.Drivers, "uio_pci_generic")
		return p, m, ok
	}
	want := claim("vf: " + testhost.VF1)
	plan, drivers, err := n.want(with(want, `"driver": "uio_pci_generic"`))
	require.NoError(t, err)
	require.NoError(t, n.planDrivers(&plan, drivers))
	require.Equal(t, "uio_pci_generic", plan.Requests[0].Devices[0].Bound)
	plan.Requests[0].Devices[0].ID = "mlx5_core.sf.1"
	require.ErrorContains(t, n.planDrivers(&plan, map[string]string{"mlx5_core.sf.1": "vfio-pci"}),
		`request vf: driver "vfio-pci" is asked for, and mlx5_core.sf.1 is on the auxiliary bus, where drivers stay`)
}
