// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/controller/lagtest"
)

// The state of a node is kept while the API server has the node, whatever caches show.
func TestStateOfANodeThatIsThereIsKept(t *testing.T) {
	node := env.NodeMeta()
	node.Name, node.Labels = "n", map[string]string{"kubernetes.io/os": "linux"}
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "default"}}
	cfg.Spec.ConfigDaemonNodeSelector = map[string]string{"kubernetes.io/os": "linux"}
	state := &v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "n", UID: "state"}}
	s := lagtest.NewStale(t, fake.NewClientBuilder().WithScheme(lagtest.Scheme(t)).WithObjects(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: node.Labels}}, cfg, state, lagtest.NamespaceOf("ns")))
	r := &planner{Client: s.APIClient(), Live: s.WithWatch, Operator: env.Operator{Namespace: "ns"}, Board: &board{Changed: func([]string) {}}}
	req := ctrl.Request{NamespacedName: client.ObjectKeyFromObject(state)}
	s.Shows[lagtest.KeyOf(node)] = nil
	result, err := r.Reconcile(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, apiclient.ConflictAgain, result.RequeueAfter)
	require.True(t, s.Has(t, state.DeepCopy()))

	require.NoError(t, s.Delete(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, client.Preconditions{UID: new(types.UID(""))}))
	_, err = r.Reconcile(t.Context(), req)
	require.NoError(t, err)
	require.False(t, s.Has(t, state.DeepCopy()))
}
