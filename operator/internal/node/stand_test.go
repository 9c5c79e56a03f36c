// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/sriovkit/sriovkit/libsriov/sriovtest"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// fakeKubelet answers for a kubelet: who holds what, and what it would give to pods.
type fakeKubelet struct {
	podresources.UnimplementedPodResourcesListerServer
	mu      sync.Mutex
	holders map[string]string // pod by device
	offered []string
	claims  []*podresources.DynamicResource // of pod claimant
	empty   bool
	asked   func(k *fakeKubelet) // before each answer about what it would give, with mu held
}

func newKubelet(t *testing.T) (*fakeKubelet, string) {
	k := &fakeKubelet{holders: map[string]string{}}
	socket := filepath.Join(t.TempDir(), "kubelet.sock")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	s := grpc.NewServer()
	podresources.RegisterPodResourcesListerServer(s, k)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return k, socket
}

func (k *fakeKubelet) hold(vf, pod string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if delete(k.holders, vf); pod != "" {
		k.holders[vf] = pod
	}
}

func (k *fakeKubelet) List(context.Context, *podresources.ListPodResourcesRequest) (*podresources.ListPodResourcesResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := &podresources.ListPodResourcesResponse{}
	if k.empty {
		return out, nil
	}
	out.PodResources = append(out.PodResources, &podresources.PodResources{Namespace: "ns", Name: "daemon"})
	for vf, pod := range k.holders {
		out.PodResources = append(out.PodResources, &podresources.PodResources{Namespace: "ns", Name: pod, Containers: []*podresources.ContainerResources{
			{Devices: []*podresources.ContainerDevices{{ResourceName: "openshift.io/r", DeviceIds: []string{vf}}}},
		}})
	}
	if len(k.claims) > 0 {
		out.PodResources = append(out.PodResources, &podresources.PodResources{Namespace: "ns", Name: "claimant", Containers: []*podresources.ContainerResources{
			{DynamicResources: k.claims},
		}})
	}
	return out, nil
}

func (k *fakeKubelet) GetAllocatableResources(context.Context, *podresources.AllocatableResourcesRequest) (*podresources.AllocatableResourcesResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.asked != nil {
		k.asked(k)
	}
	return &podresources.AllocatableResourcesResponse{Devices: []*podresources.ContainerDevices{{ResourceName: "openshift.io/r", DeviceIds: slices.Clone(k.offered)}}}, nil
}

const treePF, treeVF0, treeVF1 = "0000:01:00.0", "0000:01:01.0", "0000:01:01.1"

// stand is a daemon on a tree of files, with a kubelet and an API server of its own.
type stand struct {
	*Daemon
	t       *testing.T
	kubelet *fakeKubelet
	root    string
	events  *events.FakeRecorder

	mu     sync.Mutex
	wrote  []string // attributes of the host
	refuse error
	writes int // to the API server
	// refuseAnnotations: what the API server answers to them.
	refuseAnnotations error
}

// newStand has a PF with two VFs on vfio-pci, of which the spec wants one.
func newStand(t *testing.T) *stand {
	s := &stand{t: t, root: t.TempDir(), events: events.NewFakeRecorder(100)}
	require.NoError(t, sriovtest.Unpack(s.root, sriovtest.Generate(sriovtest.Spec{PFs: 1, VFs: 2, VFDriver: "vfio-pci"})))
	s.link("iommu_group", "../../../kernel/iommu_groups/7")
	require.NoError(t, os.MkdirAll(filepath.Join(s.root, "sys/module/vfio_pci"), 0o755))
	host := sriovtest.Refusing(s.root, func(path, value string) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.wrote = append(s.wrote, filepath.Base(path)+"="+value)
		return s.refuse
	})
	scheme := runtime.NewScheme()
	require.NoError(t, v1.AddToScheme(scheme))
	state := &v1.SriovNetworkNodeState{}
	state.Namespace, state.Name, state.Generation = "ns", "node", 1
	state.Annotations = map[string]string{v1.AnnotationDesiredState: v1.DrainIdle, v1.AnnotationCurrentState: v1.DrainIdle, v1.AnnotationPlanned: "true", v1.AnnotationPlannedPFs: treePF}
	state.Spec.Interfaces = []v1.Interface{{
		PciAddress: treePF, Vendor: "8086", DeviceID: "159b", NumVfs: 1,
		VfGroups: []v1.VfGroup{{ResourceName: "r", PolicyName: "p", VfRange: "0-0", DeviceType: v1.DeviceTypeVFIO}},
	}}
	k, socket := newKubelet(t)
	s.kubelet = k
	s.Daemon = &Daemon{
		Client: fake.NewClientBuilder().WithScheme(scheme).WithObjects(state).WithStatusSubresource(state).WithInterceptorFuncs(interceptor.Funcs{
			Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
				if s.writes++; s.refuseAnnotations != nil {
					return s.refuseAnnotations
				}
				return c.Patch(ctx, o, p, opts...)
			},
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				s.writes++
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		}).Build(),
		Events: s.events, Machine: Machine{Host: host, Files: Files{Root: s.root}},
		NodeState: client.ObjectKey{Namespace: "ns", Name: "node"}, PodResources: socket,
	}
	s.Live = s.Client
	return s
}

func (s *stand) pass() (ctrl.Result, error) {
	return s.Reconcile(s.t.Context(), ctrl.Request{NamespacedName: s.NodeState})
}

func (s *stand) state() *v1.SriovNetworkNodeState {
	out := &v1.SriovNetworkNodeState{}
	require.NoError(s.t, s.Client.Get(s.t.Context(), s.NodeState, out))
	return out
}

// change edits the object as the operator does.
func (s *stand) change(f func(*v1.SriovNetworkNodeState)) {
	state := s.state()
	f(state)
	require.NoError(s.t, s.Client.Update(s.t.Context(), state))
}

// answer is the operator's: the node is drained, for the wish of that number.
func (s *stand) answer(current, number string) {
	s.change(func(n *v1.SriovNetworkNodeState) {
		n.Annotations[v1.AnnotationCurrentState], n.Annotations[v1.AnnotationDrainAnswer] = current, number
	})
}

func (s *stand) annotation(name string) string { return s.state().Annotations[name] }

func ownedBy(i v1.Interface) plan.Owned { return plan.Owned{Interface: i} }
