// SPDX-License-Identifier: Apache-2.0

package lagtest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
)

// Stale is an API server that the reconcilers see through a cache of some time ago, object
// by object: what is in Shows was there then (nil: was not).
type Stale struct {
	client.WithWatch
	Shows   map[string]client.Object // by kind and name
	Applies int
}

// Get reads from the cache.
func (s *Stale) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	obj.SetName(key.Name)
	was, hidden := s.Shows[KeyOf(obj)]
	switch {
	case hidden && was == nil:
		return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
	case hidden:
		data, err := runtime.DefaultUnstructuredConverter.ToUnstructured(was)
		if err != nil {
			return err
		}
		return runtime.DefaultUnstructuredConverter.FromUnstructured(data, obj)
	}
	return s.WithWatch.Get(ctx, key, obj, opts...)
}

// NewStale shows everything as it is, and has what is in from, whose scheme is Scheme.
func NewStale(t *testing.T, from *fake.ClientBuilder) *Stale {
	s := &Stale{Shows: map[string]client.Object{}}
	s.WithWatch = from.WithReturnManagedFields().
		WithInterceptorFuncs(interceptor.Funcs{
			Apply: func(ctx context.Context, c client.WithWatch, obj runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
				s.Applies++
				return c.Apply(ctx, obj, opts...)
			},
			// The fake knows no precondition by UID.
			Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
				var o client.DeleteOptions
				o.ApplyOptions(opts)
				now := obj.DeepCopyObject().(client.Object)
				if err := c.Get(ctx, client.ObjectKeyFromObject(obj), now); err != nil {
					return err
				}
				if o.Preconditions == nil || o.Preconditions.UID == nil {
					t.Errorf("deletion of %s without a precondition", KeyOf(obj))
				} else if now.GetUID() != *o.Preconditions.UID {
					return apierrors.NewConflict(schema.GroupResource{}, obj.GetName(), nil)
				}
				return c.Delete(ctx, obj, opts...)
			},
		}).Build()
	return s
}

// Has reports whether the API server has an object, and reads it.
func (s *Stale) Has(t *testing.T, obj client.Object) bool {
	t.Helper()
	err := s.WithWatch.Get(t.Context(), client.ObjectKeyFromObject(obj), obj)
	require.NoError(t, client.IgnoreNotFound(err))
	return err == nil
}

// APIClient is one of the kind that the reconcilers have, without merge patches.
func (s *Stale) APIClient() *apiclient.Client { return &apiclient.Client{Client: s} }

// NamespaceOf is a Namespace with a UID.
func NamespaceOf(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("ns-" + name)}}
}
