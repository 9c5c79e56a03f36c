// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
)

// A NAD that somebody copied into another namespace, with its annotation and name, is theirs;
// one that the operator made there goes.
func TestCopiedNADStays(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1.AddToScheme, nad.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	r := &Network{Operator: Operator{Namespace: "ns"}, Kind: "SriovNetwork"}
	key := client.ObjectKey{Namespace: "ns", Name: "net"}
	in := func(namespace string, owners ...metav1.OwnerReference) *nad.NetworkAttachmentDefinition {
		return &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: key.Name, UID: types.UID(namespace), OwnerReferences: owners, Annotations: map[string]string{v1.AnnotationOwnerRef: r.ownerRef(key)},
		}}
	}
	ours := metav1.OwnerReference{APIVersion: "v1", Kind: "Namespace", Name: "ns", UID: "ns-uid"}
	theirs := metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: "x"}
	for _, except := range []string{"now", ""} {
		t.Run("all but "+except, func(t *testing.T) {
			r.Client = &Client{Client: fake.NewClientBuilder().WithScheme(scheme).
				WithIndex(&nad.NetworkAttachmentDefinition{}, OwnerIndex, Owner).
				WithObjects(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", UID: "ns-uid"}},
					in("now", ours), in("before", ours), in("copy"), in("owned", theirs)).Build()}
			require.NoError(t, r.remove(t.Context(), key, except, nil))
			var left nad.NetworkAttachmentDefinitionList
			require.NoError(t, r.List(t.Context(), &left))
			var where []string
			for _, n := range left.Items {
				where = append(where, n.Namespace)
			}
			want := []string{"copy", "owned"}
			if except != "" {
				want = []string{"copy", "now", "owned"}
			}
			require.ElementsMatch(t, want, where)
		})
	}
}

// What the daemon of a node wished before the node went away is not granted when it is back.
func TestWishOfAGoneDaemonIsDropped(t *testing.T) {
	r := &NodePlanner{}
	state := &v1.SriovNetworkNodeState{}
	wish := map[string]string{
		v1.AnnotationDesiredState: v1.DrainRequired, v1.AnnotationCurrentState: v1.Draining, v1.AnnotationDrainRequest: "7", v1.AnnotationDrainVFs: "0000:01:10.0", v1.AnnotationDrainPods: "default/user",
	}
	state.Annotations = map[string]string{v1.AnnotationKeepUntil: "2026-01-01T00:00:00Z"}
	for k, v := range wish {
		state.Annotations[k] = v
	}
	r.adorn(state)
	require.Equal(t, map[string]string{
		v1.AnnotationDesiredState: v1.DrainIdle, v1.AnnotationCurrentState: v1.Draining, v1.AnnotationDrainRequest: "7",
	}, state.Annotations, "the number stays: the next wish has another")

	t.Log("that of a daemon that is there stays")
	state.Annotations = wish
	r.adorn(state)
	require.Equal(t, v1.DrainRequired, state.Annotations[v1.AnnotationDesiredState])
	require.Equal(t, "0000:01:10.0", state.Annotations[v1.AnnotationDrainVFs])
}

// A first look that failed is not taken for a node without PFs.
func TestFailedFirstLookIsNotPlanned(t *testing.T) {
	p := newPlanning(t)
	p.put(p.node("a", nil))
	p.put(p.policy("x", 4, nil))
	p.settle()
	state := func() *v1.SriovNetworkNodeState {
		return p.stored["SriovNetworkNodeState/a"].(*v1.SriovNetworkNodeState)
	}
	failed := state().DeepCopy()
	failed.Status.SyncStatus, failed.Status.LastSyncError = v1.SyncFailed, "read /sys/bus/pci/devices: input/output error"
	p.put(failed)
	p.settle()
	require.NotContains(t, state().Annotations, v1.AnnotationPlanned)
	require.NotContains(t, state().Annotations, v1.AnnotationPlannedPFs)

	p.report("a", "ens1", "ens2")
	p.settle()
	require.Equal(t, "true", state().Annotations[v1.AnnotationPlanned])
	require.Equal(t, "0000:01:00.0,0000:02:00.0", state().Annotations[v1.AnnotationPlannedPFs])
	require.Len(t, state().Spec.Interfaces, 1)
	p.check()

	t.Log("a node without PFs is planned, and also while something else fails later")
	p.put(p.node("b", nil))
	p.settle()
	p.report("b")
	p.settle()
	b := p.stored["SriovNetworkNodeState/b"].(*v1.SriovNetworkNodeState).DeepCopy()
	require.Equal(t, "true", b.Annotations[v1.AnnotationPlanned])
	b.Status.SyncStatus = v1.SyncFailed
	require.True(t, reported(b))
}

// Pods that the node's daemon names hold VFs, by whatever resource; those of other nodes and
// those that it does not name do not.
func TestPodsThatTheDaemonNamesLeave(t *testing.T) {
	pod := func(name, node string, owners ...metav1.OwnerReference) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, OwnerReferences: owners}, Spec: corev1.PodSpec{NodeName: node}}
	}
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	r := &Drainer{Operator: Operator{ResourcePrefix: "openshift.io"}}
	r.Live = fake.NewClientBuilder().WithScheme(scheme).
		WithIndex(&corev1.Pod{}, "spec.nodeName", func(o client.Object) []string { return []string{o.(*corev1.Pod).Spec.NodeName} }).
		WithObjects(pod("named", "a"), pod("other", "a"), pod("elsewhere", "b"),
			pod("agent", "a", metav1.OwnerReference{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "d", UID: "u", Controller: new(true)})).Build()
	state := &v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Name: "a", Annotations: map[string]string{
		v1.AnnotationDrainPods: "default/agent,default/elsewhere,default/named,kube-system/other",
	}}}
	got, err := r.occupants(t.Context(), state, false)
	require.NoError(t, err)
	require.Empty(t, got.unknown)
	require.Len(t, got.leave, 1)
	require.Equal(t, "named", got.leave[0].Name)
	require.Equal(t, []string{"pod default/agent holds VFs: DaemonSet d would put it back at once"}, got.stay)
}
