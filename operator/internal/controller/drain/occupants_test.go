// SPDX-License-Identifier: Apache-2.0

package drain

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/controller/lagtest"
)

// Pods that the node's daemon names hold VFs, by whatever resource; those of other nodes and
// those that it does not name do not.
func TestPodsThatTheDaemonNamesLeave(t *testing.T) {
	pod := func(name, node string, owners ...metav1.OwnerReference) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, OwnerReferences: owners}, Spec: corev1.PodSpec{NodeName: node}}
	}
	byUID := pod("unlisted", "a")
	byUID.UID = "5c2f8f4e-9a39-4d0c-8f0b-0c3f5b0f9f11"
	r := &drainer{Operator: env.Operator{ResourcePrefix: "openshift.io"}}
	r.Live = fake.NewClientBuilder().WithScheme(lagtest.Scheme(t)).
		WithIndex(&corev1.Pod{}, "spec.nodeName", func(o client.Object) []string { return []string{o.(*corev1.Pod).Spec.NodeName} }).
		WithObjects(pod("named", "a"), byUID, pod("other", "a"), pod("elsewhere", "b"),
			pod("agent", "a", metav1.OwnerReference{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "d", UID: "u", Controller: new(true)})).Build()
	state := &v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Name: "a", Annotations: map[string]string{
		v1.AnnotationDrainPods: "default/agent,default/elsewhere,default/named,kube-system/other," + string(byUID.UID),
	}}}
	got, err := r.occupants(t.Context(), state, false)
	require.NoError(t, err)
	require.Empty(t, got.unknown)
	require.Len(t, got.leave, 2)
	require.Equal(t, []string{"named", "unlisted"}, []string{got.leave[0].Name, got.leave[1].Name})
	require.Equal(t, []string{"pod default/agent holds VFs: DaemonSet d would put it back at once"}, got.stay)
}
