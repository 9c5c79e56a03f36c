// SPDX-License-Identifier: Apache-2.0

package drain

import (
	"strings"
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
	static := pod("static", "a") // the kubelet does not know the UID of its mirror
	static.UID, static.Annotations = "0a1b2c3d-0000-4000-8000-000000000001", map[string]string{
		corev1.MirrorPodAnnotationKey: "0123456789abcdef0123456789abcdef", "kubernetes.io/config.hash": "0123456789abcdef0123456789abcdef",
	}
	r := &drainer{Operator: env.Operator{ResourcePrefix: "openshift.io"}}
	r.Live = fake.NewClientBuilder().WithScheme(lagtest.Scheme(t)).
		WithIndex(&corev1.Pod{}, "spec.nodeName", func(o client.Object) []string { return []string{o.(*corev1.Pod).Spec.NodeName} }).
		WithObjects(pod("named", "a"), byUID, static, pod("other", "a"), pod("elsewhere", "b"),
			pod("agent", "a", metav1.OwnerReference{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "d", UID: "u", Controller: new(true)})).Build()
	state := &v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Name: "a", Annotations: map[string]string{
		v1.AnnotationDrainPods: "default/agent,default/elsewhere,default/named,kube-system/other," + string(byUID.UID) + ",0123456789abcdef0123456789abcdef",
	}}}
	got, err := r.occupants(t.Context(), state, false)
	require.NoError(t, err)
	require.Empty(t, got.unknown)
	require.Len(t, got.leave, 2)
	require.Equal(t, []string{"named", "unlisted"}, []string{got.leave[0].Name, got.leave[1].Name})
	require.Equal(t, []string{
		"pod default/agent holds VFs: DaemonSet d would put it back at once",
		"static pod default/static holds VFs: a static pod cannot be evicted",
	}, got.stay)
}

// A question of any length costs nothing: nobody reads past its limit, and no pod is listed for it.
func TestQuestionThatIsTooLong(t *testing.T) {
	state := &v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1.AnnotationPodsAsked: strings.Repeat("u,", maxAsked)}}}
	require.NoError(t, (&drainer{}).answerPods(t.Context(), state))
	t.Log("short enough, but its answer would not fit into an object, and be refused again and again")
	state.Annotations[v1.AnnotationPodsAsked] = strings.Repeat(",", maxAsked)
	require.NoError(t, (&drainer{}).answerPods(t.Context(), state))
}
