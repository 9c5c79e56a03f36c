// SPDX-License-Identifier: Apache-2.0

package networks

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/controller/lagtest"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
)

// A network that is moved and moved back keeps its NAD: what an older version of it says is
// not carried out against a newer one. Nor does a NAD that the cache does not show yet make
// the network fail.
func TestNetworkBehindTheCache(t *testing.T) {
	net := &v1.SriovNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "net", UID: "net", Generation: 3}}
	net.Spec.ResourceName, net.Spec.NetworkNamespace = "r", "a"
	s := lagtest.NewStale(t, fake.NewClientBuilder().WithScheme(lagtest.Scheme(t)).WithIndex(&nad.NetworkAttachmentDefinition{}, ownerIndex, owner).
		WithObjects(net, lagtest.NamespaceOf("ns"), lagtest.NamespaceOf("a"), lagtest.NamespaceOf("b")))
	r := &reconciler{Client: s.APIClient(), Operator: env.Operator{Namespace: "ns", ResourcePrefix: "x.io"}, Live: s.WithWatch, Kind: "SriovNetwork"}
	provide := func(n *v1.SriovNetwork) error {
		_, err := r.provide(t.Context(), &network{Object: n, status: &n.Status})
		return err
	}
	require.NoError(t, provide(net))
	made := &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "net"}}
	require.True(t, s.Has(t, made))
	s.Shows[lagtest.KeyOf(made)] = nil
	require.NoError(t, provide(net), "made by a pass that the cache does not show yet")
	delete(s.Shows, lagtest.KeyOf(made))

	before := net.DeepCopy()
	before.Generation, before.Spec.NetworkNamespace = 2, "b"
	require.True(t, apierrors.IsConflict(provide(before)))
	require.True(t, s.Has(t, made), "which the newest version wants")
}

// A NAD that somebody copied into another namespace, with its annotation and name, is theirs;
// one that the operator made there goes.
func TestCopiedNADStays(t *testing.T) {
	scheme := lagtest.Scheme(t)
	r := &reconciler{Operator: env.Operator{Namespace: "ns"}, Kind: "SriovNetwork"}
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
			r.Client = &apiclient.Client{Client: fake.NewClientBuilder().WithScheme(scheme).
				WithIndex(&nad.NetworkAttachmentDefinition{}, ownerIndex, owner).
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
