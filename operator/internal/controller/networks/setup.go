// SPDX-License-Identifier: Apache-2.0

package networks

import (
	"context"
	"errors"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
)

// Setup adds what keeps the NetworkAttachmentDefinitions of the three kinds of networks.
func Setup(mgr ctrl.Manager, c *apiclient.Client, o env.Operator) error {
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &nad.NetworkAttachmentDefinition{}, ownerIndex, owner); err != nil {
		return err
	}
	var errs []error
	for _, kind := range []string{"SriovNetwork", "SriovIBNetwork", "OVSNetwork"} {
		r := &reconciler{Client: c, Operator: o, Live: mgr.GetAPIReader(), Kind: kind}
		errs = append(errs, ctrl.NewControllerManagedBy(mgr).Named(kind).
			For(r.New()). // also of the condition that was written: the cache may have hidden it
			Watches(&nad.NetworkAttachmentDefinition{}, r.networkOf()).
			Watches(&corev1.Namespace{}, r.networksFor(), builder.WithPredicates(predicate.Funcs{
				UpdateFunc: func(e event.UpdateEvent) bool {
					return slices.ContainsFunc([]string{v1.AnnotationAllowedResources, v1.AnnotationAllowedPlugins}, func(name string) bool {
						was, had := e.ObjectOld.GetAnnotations()[name]
						is, has := e.ObjectNew.GetAnnotations()[name]
						return was != is || had != has
					})
				},
			})).
			Complete(r))
	}
	return errors.Join(errs...)
}

// networkOf wakes the network that a NAD names as its owner, and the one that wants
// to have a NAD of this name here.
func (r *reconciler) networkOf() handler.EventHandler {
	prefix := r.Kind + "." + v1.GroupVersion.Group + "/"
	return handler.EnqueueRequestsFromMapFunc(func(_ context.Context, obj client.Object) []reconcile.Request {
		out := []reconcile.Request{
			{NamespacedName: client.ObjectKeyFromObject(obj)},
			{NamespacedName: client.ObjectKey{Namespace: r.Namespace, Name: obj.GetName()}},
		}
		if rest, ok := strings.CutPrefix(obj.GetAnnotations()[v1.AnnotationOwnerRef], prefix); ok {
			if ns, name, ok := strings.Cut(rest, "/"); ok {
				out = append(out, reconcile.Request{NamespacedName: client.ObjectKey{Namespace: ns, Name: name}})
			}
		}
		return out
	})
}

// networksFor wakes the networks in a namespace that comes, goes, or whose resources are
// restricted, and those that want to be in it.
func (r *reconciler) networksFor() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, ns client.Object) []reconcile.Request {
		var out []reconcile.Request
		for _, home := range []string{r.Namespace, ns.GetName()} {
			_ = r.each(ctx, home, func(obj client.Object) {
				if source, ok := nad.SourceOf(obj); ok && (home == ns.GetName() || source.Target() == ns.GetName()) {
					out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(obj)})
				}
			})
		}
		return out
	})
}

// each visits a namespace's networks of the kind.
func (r *reconciler) each(ctx context.Context, namespace string, visit func(client.Object)) error {
	obj, err := r.Scheme().New(schema.GroupVersionKind{Group: v1.GroupVersion.Group, Version: v1.GroupVersion.Version, Kind: r.Kind + "List"})
	if err != nil {
		return err
	}
	if err := r.List(ctx, obj.(client.ObjectList), client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	items, err := meta.ExtractList(obj)
	for _, i := range items {
		visit(i.(client.Object))
	}
	return err
}
