// SPDX-License-Identifier: Apache-2.0

package podresources

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	podresourcesv1 "k8s.io/kubelet/pkg/apis/podresources/v1"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
)

// fakeKubelet serves the real API over a real gRPC server.
type fakeKubelet struct {
	podresourcesv1.UnimplementedPodResourcesListerServer
	pods     []*podresourcesv1.PodResources
	withGet  bool
	requests []string
}

func (k *fakeKubelet) Get(ctx context.Context, r *podresourcesv1.GetPodResourcesRequest) (*podresourcesv1.GetPodResourcesResponse, error) {
	k.requests = append(k.requests, "Get")
	if !k.withGet {
		return k.UnimplementedPodResourcesListerServer.Get(ctx, r)
	}
	for _, p := range k.pods {
		if p.Name == r.PodName && p.Namespace == r.PodNamespace {
			return &podresourcesv1.GetPodResourcesResponse{PodResources: p}, nil
		}
	}
	return nil, errors.New("pod is not known")
}

func (k *fakeKubelet) List(context.Context, *podresourcesv1.ListPodResourcesRequest) (*podresourcesv1.ListPodResourcesResponse, error) {
	k.requests = append(k.requests, "List")
	return &podresourcesv1.ListPodResourcesResponse{PodResources: k.pods}, nil
}

func serve(t *testing.T, k *fakeKubelet) (kubeletDir string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "pod-resources"), 0o700))
	listener, err := net.Listen("unix", filepath.Join(dir, "pod-resources", "kubelet.sock"))
	require.NoError(t, err)
	server := grpc.NewServer()
	podresourcesv1.RegisterPodResourcesListerServer(server, k)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); require.NoError(t, <-done) })
	return dir
}

func pods() []*podresourcesv1.PodResources {
	devices := func(resource string, ids ...string) *podresourcesv1.ContainerDevices {
		return &podresourcesv1.ContainerDevices{ResourceName: resource, DeviceIds: ids,
			Topology: &podresourcesv1.TopologyInfo{Nodes: []*podresourcesv1.NUMANode{{ID: 1}}}}
	}
	return []*podresourcesv1.PodResources{
		{Name: "p", Namespace: "other", Containers: []*podresourcesv1.ContainerResources{{Devices: []*podresourcesv1.ContainerDevices{devices("r/vf", "x")}}}},
		{Name: "p", Namespace: "ns", Containers: []*podresourcesv1.ContainerResources{
			{Name: "a", CpuIds: []int64{1, 2, 3}, Devices: []*podresourcesv1.ContainerDevices{devices("r/vf", "d2"), devices("r/gpu", "g")},
				DynamicResources: []*podresourcesv1.DynamicResource{{ClaimName: "p-vf", ClaimNamespace: "ns"}, {ClaimName: "shared", ClaimNamespace: "ns"}}},
			{Name: "b", Memory: []*podresourcesv1.ContainerMemory{{Size: 7}}, Devices: []*podresourcesv1.ContainerDevices{devices("r/vf", "d3", "d1")},
				DynamicResources: []*podresourcesv1.DynamicResource{{ClaimName: "shared", ClaimNamespace: "ns"}}},
		}},
	}
}

func TestDevices(t *testing.T) {
	t.Parallel()
	want := map[string][]string{"r/vf": {"d2", "d1", "d3"}, "r/gpu": {"g"}}
	for name, tc := range map[string]struct {
		withGet  bool
		requests []string
	}{
		"Get":                     {true, []string{"Get"}},
		"List if there is no Get": {false, []string{"Get", "List"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kubelet := &fakeKubelet{pods: pods(), withGet: tc.withGet}
			dir := serve(t, kubelet)
			got, err := Devices(t.Context(), dir, conf.Pod{Namespace: "ns", Name: "p"})
			require.NoError(t, err)
			assert.Equal(t, want, got.Devices)
			assert.Equal(t, []string{"p-vf", "shared"}, got.Claims)
			assert.Equal(t, tc.requests, kubelet.requests)
		})
	}
}

func TestUnknownPodHasNoDevices(t *testing.T) {
	t.Parallel()
	got, err := Devices(t.Context(), serve(t, &fakeKubelet{pods: pods(), withGet: true}), conf.Pod{Namespace: "ns", Name: "q"})
	require.NoError(t, err)
	assert.Empty(t, got.Devices)
}

func TestDeadSocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "pod-resources"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pod-resources", "kubelet.sock"), nil, 0o600))
	_, err := Devices(t.Context(), dir, conf.Pod{Namespace: "ns", Name: "p"})
	require.ErrorContains(t, err, "devices of pod ns/p")
}

// A kubelet with another root directory has its checkpoint where every kubelet has it.
func TestCheckpointElsewhere(t *testing.T) {
	t.Parallel()
	none, there := filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "there")
	_, _, err := firstOf(none, there)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, none)
	require.NoError(t, os.WriteFile(there, []byte("x"), 0o600))
	path, data, err := firstOf(none, there)
	require.NoError(t, err)
	require.Equal(t, there+" x", path+" "+string(data))
	_, _, err = firstOf(filepath.Dir(there), there)
	require.Error(t, err, "what cannot be read is not one that is not there")
}

func TestCheckpoint(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "device-plugins"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "device-plugins", "kubelet_internal_checkpoint"), []byte(`{"Data":{"PodDeviceEntries":[
		{"PodUID":"u1","ContainerName":"c","ResourceName":"r/vf","DeviceIDs":{"1":["b"],"0":["c"]},"AllocResp":""},
		{"PodUID":"u1","ContainerName":"d","ResourceName":"r/vf","DeviceIDs":["a"]},
		{"PodUID":"u2","ContainerName":"c","ResourceName":"r/vf","DeviceIDs":["x"]}],"RegisteredDevices":{}},"Checksum":1}`), 0o600))
	got, err := Devices(t.Context(), dir, conf.Pod{UID: "u1"})
	require.NoError(t, err)
	assert.Equal(t, map[string][]string{"r/vf": {"b", "c", "a"}}, got.Devices)
	_, err = Devices(t.Context(), dir, conf.Pod{})
	require.ErrorContains(t, err, "UID")
	none, err := parseCheckpoint([]byte(`{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{}},"Checksum":1}`), "u")
	require.NoError(t, err, "of a kubelet that has given nothing")
	require.Empty(t, none)
	for _, unknown := range []string{`{}`, `{"Data":{}}`, `{"Data":{"RegisteredDevices":{}}}`} {
		_, err = parseCheckpoint([]byte(unknown), "u")
		require.ErrorContains(t, err, "PodDeviceEntries", "no kubelet writes %s", unknown)
	}
	_, err = parseCheckpoint([]byte(`{"Data":{"PodDeviceEntries":[{"PodUID":"u","ResourceName":"r","DeviceIDs":"x"}]}}`), "u")
	require.ErrorContains(t, err, "DeviceIDs of r")
}

func FuzzDecodeReply(f *testing.F) {
	reply, err := proto.Marshal(&podresourcesv1.ListPodResourcesResponse{PodResources: pods()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(reply)
	f.Add(reply[:len(reply)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		devices, err := decodeReply(data, conf.Pod{Namespace: "ns", Name: "p"})
		require.NotEqual(t, err == nil, devices.Devices == nil, "a value or an error")
	})
}
