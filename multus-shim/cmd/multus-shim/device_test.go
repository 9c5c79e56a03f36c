// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"
)

// kubelet serves one pod's devices of the resource example.com/vf.
type kubelet struct {
	podresources.UnimplementedPodResourcesListerServer
	devices  []string
	resource string // example.com/vf by default
	claims   []string
	listed   bool // Get is not implemented
}

func (k *kubelet) pod() *podresources.PodResources {
	c := &podresources.ContainerResources{Devices: []*podresources.ContainerDevices{{ResourceName: cmp.Or(k.resource, "example.com/vf"), DeviceIds: k.devices}}}
	for _, name := range k.claims {
		c.DynamicResources = append(c.DynamicResources, &podresources.DynamicResource{ClaimName: name, ClaimNamespace: podNS})
	}
	return &podresources.PodResources{Name: podName, Namespace: podNS, Containers: []*podresources.ContainerResources{c}}
}

func (k *kubelet) Get(ctx context.Context, r *podresources.GetPodResourcesRequest) (*podresources.GetPodResourcesResponse, error) {
	if k.listed {
		return k.UnimplementedPodResourcesListerServer.Get(ctx, r)
	}
	return &podresources.GetPodResourcesResponse{PodResources: k.pod()}, nil
}

func (k *kubelet) List(context.Context, *podresources.ListPodResourcesRequest) (*podresources.ListPodResourcesResponse, error) {
	return &podresources.ListPodResourcesResponse{PodResources: []*podresources.PodResources{k.pod()}}, nil
}

func (e *env) kubelet(k *kubelet) {
	e.t.Helper()
	short, err := os.MkdirTemp("", "kubelet") // a socket's path has 107 bytes at most
	require.NoError(e.t, err)
	e.t.Cleanup(func() { _ = os.RemoveAll(short) })
	e.conf["kubeletDir"] = short
	dir := filepath.Join(short, "pod-resources")
	require.NoError(e.t, os.MkdirAll(dir, 0o700))
	listener, err := net.Listen("unix", filepath.Join(dir, "kubelet.sock"))
	require.NoError(e.t, err)
	server := grpc.NewServer()
	podresources.RegisterPodResourcesListerServer(server, k)
	go func() { _ = server.Serve(listener) }()
	e.t.Cleanup(server.Stop)
}

// withResource adds a NAD that uses example.com/vf.
func (e *env) withResource(namespace, name string) {
	e.api.PutNAD(namespace, name, `{"cniVersion":"1.0.0","type":"recorder",`+allCaps+`}`,
		map[string]string{"k8s.v1.cni.cncf.io/resourceName": "example.com/vf"})
}

func TestDevicesOfTheKubelet(t *testing.T) {
	t.Parallel()
	for name, listed := range map[string]bool{"Get": false, "List": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.kubelet(&kubelet{devices: []string{"0000:01:00.3", "0000:01:00.1", "0000:01:00.2"}, listed: listed})
			e.withResource("kube-system", "dev")
			e.withResource(podNS, "neta")
			e.annotations["v1.multus-cni.io/default-network"] = "dev"
			e.networks("neta,neta")
			e.must("ADD")
			calls := e.calls()
			require.Equal(t, []string{"ADD eth0", "ADD net1", "ADD net2"}, names(calls))
			for i, want := range []string{`"0000:01:00.1"`, `"0000:01:00.2"`, `"0000:01:00.3"`} {
				assert.Equal(t, want, calls[i].member(t, "deviceID"), "no device twice")
				assert.Equal(t, want, calls[i].member(t, "pciBusID"))
				assert.Contains(t, calls[i].member(t, "runtimeConfig"), `"deviceID":`+want)
			}
		})
	}
}

func TestTooFewDevices(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.kubelet(&kubelet{devices: []string{"0000:01:00.1"}})
	e.withResource(podNS, "neta")
	e.networks("neta,neta")
	e.mustFail("ADD", types.ErrInvalidNetworkConfig, `no device of resource "example.com/vf" is left`)
	assert.Empty(t, e.calls())
}

func TestNoKubelet(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.withResource(podNS, "neta")
	e.networks("neta")
	e.mustFail("ADD", types.ErrTryAgainLater, "devices of pod ns1/pod1")

	dir := filepath.Join(e.dir, "kubelet", "device-plugins")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kubelet_internal_checkpoint"),
		[]byte(`{"Data":{"PodDeviceEntries":[{"PodUID":"uid-1","ResourceName":"example.com/vf","DeviceIDs":{"0":["0000:01:00.7"]}}]}}`), 0o600))
	e.must("ADD")
	assert.Equal(t, `"0000:01:00.7"`, e.calls()[1].member(t, "deviceID"), "from the checkpoint file")
}

// Kubelet's API does not tell of devices of init containers, and of those of other containers
// only once.
func TestDevicesOfInitContainers(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.kubelet(&kubelet{devices: []string{"0000:01:00.3"}})
	e.withResource(podNS, "neta")
	e.networks("neta,neta")
	write := func(text string) {
		path := filepath.Join(e.conf["kubeletDir"].(string), "device-plugins", "kubelet_internal_checkpoint")
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	write("{")
	e.mustFail("ADD", types.ErrInvalidNetworkConfig, `no device of resource "example.com/vf" is left`)
	write(`{"Data":{"PodDeviceEntries":[
		{"PodUID":"another","ContainerName":"init","ResourceName":"example.com/vf","DeviceIDs":{"0":["0000:01:00.1"]}},
		{"PodUID":"uid-1","ContainerName":"init","ResourceName":"example.com/vf","DeviceIDs":{"0":["0000:01:00.2","0000:01:00.3"]}},
		{"PodUID":"uid-1","ContainerName":"init2","ResourceName":"example.com/vf","DeviceIDs":{"0":["0000:01:00.2"]}},
		{"PodUID":"uid-1","ContainerName":"main","ResourceName":"example.com/vf","DeviceIDs":{"0":["0000:01:00.3"]}}]}}`)
	e.networks("neta,neta,neta")
	e.mustFail("ADD", types.ErrInvalidNetworkConfig, "the pod has 2 and must request one for each of the 3 networks")
	e.networks("neta,neta")
	e.must("ADD")
	calls := e.calls()
	assert.Equal(t, []string{`"0000:01:00.3"`, `"0000:01:00.2"`}, []string{calls[1].member(t, "deviceID"), calls[2].member(t, "deviceID")})
}

func TestDevicesOfResourceClaims(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.detect()
	e.kubelet(&kubelet{})
	e.withResource(podNS, "neta")
	e.networks("neta")
	e.api.Put("/api/v1/namespaces/ns1/pods/pod1", `{"metadata":{"uid":"uid-1","name":"pod1","namespace":"ns1"},"spec":{"nodeName":"node-a"},
		"status":{"resourceClaimStatuses":[{"name":"unused"},{"name":"vf","resourceClaimName":"pod1-vf"}]}}`)
	e.api.Put("/apis/resource.k8s.io/v1/namespaces/ns1/resourceclaims/pod1-vf",
		`{"metadata":{"namespace":"ns1","name":"pod1-vf"},"status":{"allocation":{"devices":{"results":[{"driver":"d.example.com","pool":"node-a","device":"vf-3"}]}}}}`)
	e.api.Put("/apis/resource.k8s.io/v1/resourceslices", `{"items":[{"spec":{"driver":"d.example.com","pool":{"name":"node-a"},"devices":[
		{"name":"vf-2","attributes":{"k8s.cni.cncf.io/deviceID":{"string":"0000:01:00.2"},"k8s.cni.cncf.io/resourceName":{"string":"example.com/vf"}}},
		{"name":"vf-3","attributes":{"k8s.cni.cncf.io/deviceID":{"string":"0000:01:00.3"},"k8s.cni.cncf.io/resourceName":{"string":"example.com/vf"},"n":{"int":1}}}]}}]}`)
	e.must("ADD")
	assert.Equal(t, `"0000:01:00.3"`, e.calls()[1].member(t, "deviceID"))
	assert.Equal(t, []string{"GET neta", "GET pod1", "GET pod1-vf", "GET resourceslices", "PATCH status"}, e.asked())
}

// Claims of every kind: named by the pod or made for its extended resources, told by
// the kubelet or by the pod's status; what is of another kind contributes nothing.
func TestDevicesOfEveryClaim(t *testing.T) {
	t.Parallel()
	const pod = `{"metadata":{"uid":"uid-1","name":"pod1","namespace":"ns1"},"spec":{"nodeName":"node-a"},"status":{%s}}`
	for name, tc := range map[string]struct {
		prepared []string
		status   string
		pool     string
		results  string
		want     string // device of net1, "" for none
		asked    []string
	}{
		"extended resource": {status: `"extendedResourceClaimStatus":{"resourceClaimName":"c","requestMappings":[{"containerName":"a","requestName":"r","resourceName":"deviceclass.resource.kubernetes.io/x"}]}`,
			pool: "node-a", results: `{"driver":"d","pool":"node-a","device":"vf-3"}`, want: "3", asked: []string{"GET neta", "GET pod1", "GET c", "GET resourceslices", "PATCH status"}},
		"prepared": {prepared: []string{"c"}, pool: "node-a", results: `{"driver":"d","pool":"node-a","device":"vf-3"}`, want: "3",
			asked: []string{"GET neta", "GET c", "GET resourceslices", "PATCH status"}},
		"prepared, twice the same": {prepared: []string{"c", "c"}, pool: "node-a", results: `{"driver":"d","pool":"node-a","device":"vf-3"}`, want: "3",
			asked: []string{"GET neta", "GET c", "GET resourceslices", "PATCH status"}},
		"pool of another name": {prepared: []string{"c"}, pool: "sriov", results: `{"driver":"d","pool":"sriov","device":"vf-2"}`, want: "2",
			asked: []string{"GET neta", "GET c", "GET resourceslices", "PATCH status"}},
		"admin access": {prepared: []string{"c"}, pool: "node-a", results: `{"driver":"d","pool":"node-a","device":"vf-2","adminAccess":true},{"driver":"d","pool":"node-a","device":"vf-3","adminAccess":false}`, want: "3",
			asked: []string{"GET neta", "GET c", "GET resourceslices", "PATCH status"}},
		"admin access alone": {prepared: []string{"c"}, pool: "node-a", results: `{"driver":"d","pool":"node-a","device":"vf-2","adminAccess":true}`,
			asked: []string{"GET neta", "GET c", "PATCH status"}},
		"device of another kind": {prepared: []string{"c"}, pool: "node-a", results: `{"driver":"d","pool":"node-a","device":"gpu"}`,
			asked: []string{"GET neta", "GET c", "GET resourceslices", "PATCH status"}},
		"no device allocated": {prepared: []string{"c"}, pool: "node-a", asked: []string{"GET neta", "GET c", "PATCH status"}},
		"no claim":            {pool: "node-a", asked: []string{"GET neta", "GET pod1", "PATCH status"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.kubelet(&kubelet{claims: tc.prepared})
			e.withResource(podNS, "neta")
			e.networks("neta")
			e.api.Put("/api/v1/namespaces/ns1/pods/pod1", fmt.Sprintf(pod, tc.status))
			e.api.Put("/apis/resource.k8s.io/v1/namespaces/ns1/resourceclaims/c", `{"metadata":{"namespace":"ns1","name":"c"},"status":{"allocation":{"devices":{"results":[`+tc.results+`]}}}}`)
			vf := func(n string) string {
				return `{"name":"vf-` + n + `","attributes":{"k8s.cni.cncf.io/deviceID":{"string":"` + n + `"},"k8s.cni.cncf.io/resourceName":{"string":"example.com/vf"}}}`
			}
			e.api.Put("/apis/resource.k8s.io/v1/resourceslices", `{"items":[{"spec":{"driver":"d","pool":{"name":"`+tc.pool+`"},"devices":[`+vf("2")+`,`+vf("3")+`,{"name":"gpu","attributes":{"model":{"string":"x"}}}]}}]}`)
			out := e.must("ADD")
			if tc.want == "" {
				assert.Empty(t, e.calls()[1].member(t, "deviceID"))
				assert.Contains(t, out.Stderr, "no device of resource")
			} else {
				assert.Equal(t, `"`+tc.want+`"`, e.calls()[1].member(t, "deviceID"))
			}
			assert.Equal(t, tc.asked, e.asked())
		})
	}
}

func TestDeviceInfo(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.kubelet(&kubelet{devices: []string{"0000:01:00.1"}})
	info := e.deviceFile(t, "0000:01:00.1")
	e.withResource(podNS, "neta")
	e.nad("netb", allCaps)
	e.networks("neta,netb")
	// What an earlier attempt left is not what counts.
	stale := filepath.Join(e.dir, "devinfo", "cni", "ns1-neta-c1_net1")
	require.NoError(t, os.MkdirAll(filepath.Dir(stale), 0o755))
	require.NoError(t, os.WriteFile(stale, []byte(`{"type":"pci","version":"1.1.0","pci":{"pci-address":"stale"}}`), 0o644))
	e.must("ADD")

	calls := e.calls()
	assert.Contains(t, calls[1].member(t, "runtimeConfig"), `"CNIDeviceInfoFile":"`+stale+`"`)
	assert.Contains(t, calls[2].member(t, "runtimeConfig"), "ns1-netb-c1_net2", "without a device, too")
	published, err := json.Marshal(e.status()[1]["device-info"])
	require.NoError(t, err)
	assert.JSONEq(t, info, string(published))
	assert.Nil(t, e.status()[2]["device-info"])

	e.must("DEL")
	assert.NoFileExists(t, stale)
	assert.FileExists(t, filepath.Join(e.dir, "devinfo", "dp", "example.com-vf-0000:01:00.1-device.json"), "the device plugin's own stays")
}

// The driver of a claim learns interface, MAC and addresses, until the pod's
// sandbox is gone; a sandbox that came after it keeps its own.
func TestAttachmentsAreTold(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.conf["deviceInfoDir"] = filepath.Join(e.dir, "run", "devinfo")
	e.kubelet(&kubelet{devices: []string{"0000:01:00.1"}})
	e.api.PutNAD(podNS, "neta", `{"cniVersion":"1.1.0","type":"recorder","test":{"result":{"cniVersion":"1.1.0","interfaces":[{"name":"host"},{"name":"net1","mac":"02:00:00:00:00:07","mtu":9000,"sandbox":"s"}],
		"ips":[{"address":"10.0.0.2/24","interface":1},{"address":"fd00::2/64","interface":1}]}}}`,
		map[string]string{"k8s.v1.cni.cncf.io/resourceName": "example.com/vf"})
	e.nad("netb", "")
	e.networks("neta,netb")
	e.must("ADD")
	path := filepath.Join(e.dir, "run", "attachments", podUID+".json")
	told := func() string { data, _ := os.ReadFile(path); return string(data) }
	assert.JSONEq(t, `{"version":1,"podUID":"uid-1","podNamespace":"ns1","podName":"pod1","containerID":"c1","attachments":[
		{"network":"ns1/neta","deviceID":"0000:01:00.1","interface":"net1","mac":"02:00:00:00:00:07","ips":["10.0.0.2/24","fd00::2/64"],"mtu":9000}]}`, told())
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o644), info.Mode().Perm())
	e.container = "c2"
	e.must("ADD")
	e.container = "c1"
	e.must("DEL")
	assert.Contains(t, told(), `"containerID":"c2"`)
	e.container = "c2"
	e.must("DEL")
	assert.NoFileExists(t, path)
}
