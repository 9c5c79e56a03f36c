// SPDX-License-Identifier: Apache-2.0

package driver_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/allocation"
	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/dra/driver"
	"github.com/sriovkit/sriovkit/device-plugin/dra/offer"
	"github.com/sriovkit/sriovkit/device-plugin/dra/prepare"
	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/sriovkit/sriovkit/device-plugin/internal/kubelettest"
	"github.com/sriovkit/sriovkit/device-plugin/internal/testhost"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	health "k8s.io/kubelet/pkg/apis/dra-health/v1alpha1"
	dra "k8s.io/kubelet/pkg/apis/dra/v1"
)

const (
	name           = "sriovnetwork.k8snetworkplumbingwg.io"
	uid  types.UID = "2f0a2b1e-5d4c-4a56-9a5e-2f4d1c0b9a87"
)

// node is a driver on a generated host. The API server is client-go's fake, kubelet is
// the test.
type node struct {
	*driver.Driver
	opts      driver.Options
	t         *testing.T
	api       *fake.Clientset
	reactions *kubelettest.Reactions
	host      *libsriov.Host
	config    config.Config
	dir       string
	kube      *grpc.ClientConn
}

func start(t *testing.T) *node {
	t.Helper()
	root := testhost.New(t)
	dir, err := os.MkdirTemp("", "dra") // a test's own directory has a name too long for a socket in it
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	h, err := libsriov.Open(root)
	require.NoError(t, err)
	cfg, err := config.Parse([]byte(`{"resourceList": [
		{"resourceName": "nic", "selectors": {"drivers": ["iavf"]}},
		{"resourceName": "dpdk", "selectors": {"drivers": ["vfio-pci"]}, "linkHealth": true}]}`), "example.com")
	require.NoError(t, err)
	n := &node{t: t, host: h, config: cfg, dir: dir, api: fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", UID: "n1"}})}
	n.reactions = kubelettest.NameSlices(n.api)
	n.opts = driver.Options{
		Name: name, Node: "node-1", Client: n.api,
		PluginDir: filepath.Join(dir, "plugin"), RegistryDir: filepath.Join(dir, "registry"), AttachmentsDir: filepath.Join(dir, "attachments"),
		Facts: &driver.Facts{Host: h, Root: root},
		Prepare: prepare.Preparer{
			BootID: "b", Host: allocation.Host{Host: h, DevRoot: root}, Drivers: h,
			CDIDir: filepath.Join(dir, "cdi"), DeviceInfoDir: filepath.Join(dir, "devinfo"),
			Holders: func(context.Context) (map[string]config.Resource, error) { return nil, nil },
			Give:    func(config.Resource, []string) (func(), error) { return func() {}, nil },
			Return:  func([]string) {},
		},
	}
	n.Driver = driver.New(n.opts, slog.New(slog.DiscardHandler))
	n.Update(t.Context(), n.view(nil))
	require.NoError(t, n.Start(t.Context()))
	t.Cleanup(n.Stop)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.WatchMode(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-ended) })
	n.kube, err = grpc.NewClient("unix://"+filepath.Join(dir, "plugin/dra.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = n.kube.Close() })
	n.published(map[string]string{vf0: "", vf1: "", vf2: ""}) // it has read the Node
	return n
}

// view looks at the host. change may change devices before pools get them.
func (n *node) view(change func([]pool.Device)) (v []offer.Pool) {
	n.t.Helper()
	devices, err := pool.Read(pool.Source{Host: n.host}, config.NeedsOf(n.config.Pools))
	require.NoError(n.t, err)
	if change != nil {
		change(devices)
	}
	for i, members := range pool.Assign(devices, n.config.Pools, nil).Members {
		v = append(v, offer.Pool{Pool: n.config.Pools[i], Members: members})
	}
	return v
}

// published awaits slices with exactly these devices, with the taints of each.
func (n *node) published(want map[string]string) {
	n.t.Helper()
	require.EventuallyWithT(n.t, func(c *assert.CollectT) {
		got := map[string]string{}
		list, err := n.api.ResourceV1().ResourceSlices().List(n.t.Context(), metav1.ListOptions{})
		require.NoError(c, err)
		for _, s := range list.Items {
			for _, d := range s.Spec.Devices {
				got[d.Name] = ""
				for _, taint := range d.Taints {
					got[d.Name] += taint.Key + ":" + string(taint.Effect)
				}
			}
		}
		require.NotEmpty(c, list.Items)
		require.Equal(c, want, got)
	}, patience, tick)
}

// told is what the claim's status says of its devices.
func (n *node) told(t require.TestingT) []resourceapi.AllocatedDeviceStatus {
	claim, err := n.api.ResourceV1().ResourceClaims("team").Get(n.t.Context(), "vf", metav1.GetOptions{})
	require.NoError(t, err)
	return claim.Status.Devices
}

// ready awaits a driver that is ready, or that waits for something.
func (n *node) ready(wants string) {
	n.t.Helper()
	require.EventuallyWithT(n.t, func(c *assert.CollectT) {
		if err := n.Ready(); wants != "" {
			require.ErrorContains(c, err, wants)
		} else {
			require.NoError(c, err)
		}
	}, patience, tick)
}

// Of what is waited for.
const patience, tick = 5 * time.Minute, 5 * time.Millisecond

const vf0, vf1, vf2 = "0000-01-02-0", "0000-01-02-1", "0000-01-02-2"

func TestPublishes(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.published(map[string]string{vf0: "", vf1: "", vf2: ""})

	v := n.view(nil)
	v[1].Members = v[1].Members[:1] // a pod has the other through kubelet's device manager
	n.Update(t.Context(), v)
	n.published(map[string]string{vf0: "", vf1: ""})
	n.Update(t.Context(), n.view(nil))
	n.published(map[string]string{vf0: "", vf1: "", vf2: ""})
}

func (n *node) noCarrier() []offer.Pool {
	down := false
	return n.view(func(devices []pool.Device) {
		for i := range devices {
			if devices[i].ID == testhost.VF1 {
				devices[i].Carrier = &down
			}
		}
	})
}

func TestHealth(t *testing.T) {
	t.Parallel()
	n := start(t)
	stream, err := health.NewDRAResourceHealthClient(n.kube).NodeWatchResources(t.Context(), &health.NodeWatchResourcesRequest{})
	require.NoError(t, err)
	next := func() map[string]health.HealthStatus {
		r, err := stream.Recv()
		require.NoError(t, err)
		out := map[string]health.HealthStatus{}
		for _, d := range r.Devices {
			require.Equal(t, "node-1", d.Device.PoolName)
			out[d.Device.DeviceName] = d.Health
		}
		return out
	}
	require.Equal(t, map[string]health.HealthStatus{vf0: health.HealthStatus_HEALTHY, vf1: health.HealthStatus_HEALTHY, vf2: health.HealthStatus_HEALTHY}, next())
	n.Update(t.Context(), n.noCarrier())
	require.Equal(t, map[string]health.HealthStatus{vf0: health.HealthStatus_HEALTHY, vf1: health.HealthStatus_UNHEALTHY, vf2: health.HealthStatus_HEALTHY}, next())
	n.published(map[string]string{vf0: "", vf1: "sriovkit.io/no-carrier:NoSchedule", vf2: ""})
}

// An API server before 1.36 drops taints; what should have one is then not offered.
func TestAPIWithoutTaints(t *testing.T) {
	t.Parallel()
	n := start(t)
	var upgraded atomic.Bool
	for _, verb := range []string{"create", "update"} {
		n.reactions.Add(verb, "resourceslices", func(a clienttesting.Action) (bool, runtime.Object, error) {
			s := a.(clienttesting.CreateAction).GetObject().(*resourceapi.ResourceSlice)
			for i := range s.Spec.Devices {
				if !upgraded.Load() {
					s.Spec.Devices[i].Taints = nil
				}
			}
			return false, nil, nil
		})
	}
	n.Update(t.Context(), n.noCarrier())
	n.published(map[string]string{vf0: "", vf2: ""})

	// The next API server, to which the watch of the Node comes back, keeps them.
	upgraded.Store(true)
	nodes := n.api.CoreV1().Nodes()
	require.NoError(t, nodes.Delete(t.Context(), "node-1", metav1.DeleteOptions{}))
	_, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", UID: "n1"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	n.published(map[string]string{vf0: "", vf1: "sriovkit.io/no-carrier:NoSchedule", vf2: ""})
}

// claim makes an allocated claim in the API server.
func (n *node) claim(device string) *dra.Claim {
	n.t.Helper()
	return n.claimOf("vf", uid, device)
}

func (n *node) claimOf(claim string, uid types.UID, device string) *dra.Claim {
	n.t.Helper()
	c := &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: claim, Namespace: "team", UID: uid}}
	c.Status.ReservedFor = []resourceapi.ResourceClaimConsumerReference{{Resource: "pods", Name: "pod", UID: "p1"}}
	c.Status.Allocation = &resourceapi.AllocationResult{Devices: resourceapi.DeviceAllocationResult{
		Results: []resourceapi.DeviceRequestAllocationResult{{Request: "nic", Driver: name, Pool: "node-1", Device: device}},
	}}
	_, err := n.api.ResourceV1().ResourceClaims("team").Create(n.t.Context(), c, metav1.CreateOptions{})
	require.NoError(n.t, err)
	return &dra.Claim{Namespace: "team", Name: claim, Uid: string(uid)}
}

func (n *node) files() (out []string) {
	for _, dir := range []string{"cdi", "devinfo", "plugin/claims", "plugin/dra-device-metadata"} {
		_ = filepath.WalkDir(filepath.Join(n.dir, dir), func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				out = append(out, path)
			}
			return nil
		})
	}
	return out
}

func TestClaim(t *testing.T) {
	t.Parallel()
	n := start(t)
	c := n.claim(vf0)
	kubelet := dra.NewDRAPluginClient(n.kube)
	for range 2 {
		r, err := kubelet.NodePrepareResources(t.Context(), &dra.NodePrepareResourcesRequest{Claims: []*dra.Claim{c}})
		require.NoError(t, err)
		require.Empty(t, r.Claims[c.Uid].Error)
		require.Len(t, r.Claims[c.Uid].Devices, 1)
		require.Equal(t, []string{name + "/vf=" + c.Uid + "_nic", name + "/metadata=" + c.Uid + "_nic"}, r.Claims[c.Uid].Devices[0].CdiDeviceIds)
	}
	held, err := n.Claims()
	require.NoError(t, err)
	require.Equal(t, map[string]pool.Holder{testhost.VF0: {Resource: config.Resource{Prefix: "example.com", Name: "nic"}, Claim: "team/vf"}}, held)
	metadata := filepath.Join(n.dir, "plugin/dra-device-metadata/team_vf/nic/metadata.json")
	data, err := os.ReadFile(metadata)
	require.NoError(t, err)
	require.Contains(t, string(data), `"apiVersion": "metadata.resource.k8s.io/v1beta1"`)
	require.Contains(t, string(data), testhost.VF0)

	// The meta plugin attaches the pod's networks.
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.WatchAttachments(ctx) }()
	text, err := json.Marshal(map[string]any{"version": 1, "podUID": "p1", "attachments": []map[string]any{
		{"network": "team/blue", "deviceID": testhost.VF0, "interface": "net1", "mac": "02:00:00:00:00:01", "ips": []string{"10.0.0.2/24", "fd00::2/64", "nonsense"}},
		{"network": "team/red", "deviceID": "0000:99:00.0", "interface": "net2"},
	}})
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(n.dir, "attachments"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(n.dir, "attachments/.p1"), text, 0o644))
	require.NoError(t, os.Rename(filepath.Join(n.dir, "attachments/.p1"), filepath.Join(n.dir, "attachments/p1.json")))
	var got []resourceapi.AllocatedDeviceStatus
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		got = n.told(c)
		require.NotEmpty(c, got)
	}, patience, tick)
	require.Len(t, got, 1)
	require.Equal(t, &resourceapi.NetworkDeviceData{InterfaceName: "net1", HardwareAddress: "02:00:00:00:00:01", IPs: []string{"10.0.0.2/24", "fd00::2/64"}}, got[0].NetworkData)
	require.Equal(t, metav1.ConditionTrue, got[0].Conditions[0].Status)
	require.Eventually(t, func() bool {
		data, err := os.ReadFile(metadata)
		return err == nil && strings.Contains(string(data), `"interfaceName": "net1"`)
	}, patience, tick)
	cancel()
	require.NoError(t, <-ended)

	r, err := kubelet.NodeUnprepareResources(t.Context(), &dra.NodeUnprepareResourcesRequest{Claims: []*dra.Claim{c}})
	require.NoError(t, err)
	require.Empty(t, r.Claims[c.Uid].Error)
	require.Empty(t, n.files())
}

// The power went before the metadata was on the disk: it is made again as it was, with the
// specification by which containers get it.
func TestMetadataIsMadeAgain(t *testing.T) {
	t.Parallel()
	n := start(t)
	require.Empty(t, n.prepare(n.claim(vf0)))
	path, spec := filepath.Join(n.dir, "plugin/dra-device-metadata/team_vf/nic/metadata.json"), filepath.Join(n.dir, "cdi", name+"_metadata_"+string(uid)+"_nic.json")
	was, err := os.ReadFile(path)
	require.NoError(t, err)
	mounted, err := os.ReadFile(spec)
	require.NoError(t, err)
	for _, left := range []string{"", "\x00\x00", string(was[:40]), "gone"} {
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.Remove(spec))
		if left != "gone" {
			require.NoError(t, os.WriteFile(path, []byte(left), 0o600))
		}
		driver.New(n.opts, slog.New(slog.DiscardHandler)).Update(t.Context(), n.view(nil))
		for path, want := range map[string][]byte{path: was, spec: mounted} {
			now, err := os.ReadFile(path)
			require.NoError(t, err, "%q", left)
			require.JSONEq(t, string(want), string(now), "%q", left)
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o644), info.Mode())
		}
	}
}

// What becomes of a device that a claim has decides whether its pod may stay.
func TestTaintsOfDevicesInUse(t *testing.T) {
	t.Parallel()
	n := start(t)
	c := n.claim(vf0)
	require.Empty(t, n.prepare(c))
	store := record.Store{Dir: filepath.Join(n.dir, "plugin/claims")}
	prepared, err := store.Load(uid)
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		change func(m *pool.Member, c *record.Claim)
		taint  string
	}{
		"not selected any more":         {func(*pool.Member, *record.Claim) {}, "sriovkit.io/unusable:NoSchedule"},
		"another driver":                {func(m *pool.Member, _ *record.Claim) { m.Driver = "vfio-pci" }, "sriovkit.io/unusable:NoExecute"},
		"gone":                          {func(m *pool.Member, _ *record.Claim) { m.Gone = true }, "sriovkit.io/unusable:NoExecute"},
		"not made yet after a reboot":   {func(m *pool.Member, c *record.Claim) { m.Gone, m.Driver, c.BootID = true, "", "another" }, "sriovkit.io/unusable:NoSchedule"},
		"its driver is being changed":   {func(m *pool.Member, c *record.Claim) { m.Driver, c.Prepared = "vfio-pci", false }, "sriovkit.io/unusable:NoSchedule"},
		"driver of an auxiliary device": {func(_ *pool.Member, c *record.Claim) { c.Requests[0].Devices[0].Driver = "" }, "sriovkit.io/unusable:NoSchedule"},
	} {
		t.Log(name)
		v, kept := n.view(nil), *prepared
		kept.Requests = []record.Request{prepared.Requests[0]}
		kept.Requests[0].Devices = slices.Clone(prepared.Requests[0].Devices)
		v[0].Members[0].Unhealthy = "in use"
		tc.change(&v[0].Members[0], &kept)
		require.NoError(t, store.Save(kept))
		n.Update(t.Context(), v)
		n.published(map[string]string{vf0: tc.taint, vf1: "", vf2: ""})
	}
	require.NoError(t, store.Save(*prepared))
}

func TestClaimThatCannotBe(t *testing.T) {
	t.Parallel()
	n := start(t)
	c := n.claim("0000-09-09-0")
	r, err := dra.NewDRAPluginClient(n.kube).NodePrepareResources(t.Context(), &dra.NodePrepareResourcesRequest{Claims: []*dra.Claim{c}})
	require.NoError(t, err)
	require.Contains(t, r.Claims[c.Uid].Error, "claim team/vf: request nic: 0000:09:09.0: the node does not offer this device")
	require.Empty(t, n.files())
}
