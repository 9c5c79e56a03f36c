// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// watcher maps events to the work items they concern.
type watcher struct {
	client client.Client
	Operator
}

// nodes enqueues the nodes whose labels pass.
func (w *watcher) nodes(ctx context.Context, q queue, pass func(labels map[string]string) bool) {
	list := nodeMetaList()
	if err := w.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return // the cache is shutting down
	}
	for i := range list.Items {
		if pass(list.Items[i].Labels) {
			q.Add(reconcile.Request{NamespacedName: client.ObjectKey{Namespace: w.Namespace, Name: list.Items[i].Name}})
		}
	}
}

// policies wakes the nodes that a policy selects, or selected before.
func (w *watcher) policies() handler.EventHandler {
	one := func(ctx context.Context, obj client.Object, q queue) {
		w.nodes(ctx, q, func(l map[string]string) bool { return selects(obj, l) })
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { one(ctx, e.Object, q) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { one(ctx, e.Object, q) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			w.nodes(ctx, q, func(l map[string]string) bool { return selects(e.ObjectOld, l) || selects(e.ObjectNew, l) })
		},
	}
}

// everyNode wakes all nodes, and the states whose node is gone.
func (w *watcher) everyNode() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
		names := map[string]bool{}
		nodes := nodeMetaList()
		var states v1.SriovNetworkNodeStateList
		if w.client.List(ctx, nodes, client.UnsafeDisableDeepCopy) != nil ||
			w.client.List(ctx, &states, client.InNamespace(w.Namespace), client.UnsafeDisableDeepCopy) != nil {
			return nil // the cache is shutting down
		}
		for i := range nodes.Items {
			names[nodes.Items[i].Name] = true
		}
		for i := range states.Items {
			names[states.Items[i].Name] = true
		}
		out := make([]reconcile.Request, 0, len(names))
		for n := range names {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKey{Namespace: w.Namespace, Name: n}})
		}
		return out
	})
}

// everyPool wakes the pools: one that changes may share nodes with another, or no more.
func (w *watcher) everyPool() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
		var pools v1.SriovNetworkPoolConfigList
		if w.client.List(ctx, &pools, client.InNamespace(w.Namespace), client.UnsafeDisableDeepCopy) != nil {
			return nil // the cache is shutting down
		}
		out := make([]reconcile.Request, len(pools.Items))
		for i := range pools.Items {
			out[i].NamespacedName = client.ObjectKeyFromObject(&pools.Items[i])
		}
		return out
	})
}

// poolsOfNode wakes the pools that a node enters or leaves, and those that it shares with
// them: a while later, for counting a pool is a walk over all nodes, and labels are often
// set on many of them.
func (w *watcher) poolsOfNode() handler.EventHandler {
	wake := func(ctx context.Context, q queue, was, is client.Object) {
		var pools v1.SriovNetworkPoolConfigList
		if w.client.List(ctx, &pools, client.InNamespace(w.Namespace), client.UnsafeDisableDeepCopy) != nil {
			return // the cache is shutting down
		}
		var touched []reconcile.Request
		moved := false
		for i := range pools.Items {
			s, err := plan.PoolSelector(&pools.Items[i])
			if err != nil {
				continue
			}
			before, now := was != nil && s.Matches(labels.Set(was.GetLabels())), is != nil && s.Matches(labels.Set(is.GetLabels()))
			if before || now {
				touched = append(touched, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&pools.Items[i])})
			}
			moved = moved || before != now
		}
		for _, r := range touched {
			if moved {
				q.AddAfter(r, statusEvery)
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { wake(ctx, q, nil, e.Object) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { wake(ctx, q, e.Object, nil) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) { wake(ctx, q, e.ObjectOld, e.ObjectNew) },
	}
}

// waitingNodes wakes the nodes that wait to be drained, and those being drained.
func (w *watcher) waitingNodes() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
		var states v1.SriovNetworkNodeStateList
		if w.client.List(ctx, &states, client.InNamespace(w.Namespace), client.UnsafeDisableDeepCopy) != nil {
			return nil // the cache is shutting down
		}
		var out []reconcile.Request
		for i := range states.Items {
			if waiting(&states.Items[i]) || busy(&states.Items[i]) {
				out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&states.Items[i])})
			}
		}
		return out
	})
}

// networkOf wakes the network that a NAD names as its owner, and the one that wants
// to have a NAD of this name here.
func (w *watcher) networkOf(kind string) handler.EventHandler {
	prefix := kind + "." + v1.GroupVersion.Group + "/"
	return handler.EnqueueRequestsFromMapFunc(func(_ context.Context, obj client.Object) []reconcile.Request {
		out := []reconcile.Request{
			{NamespacedName: client.ObjectKeyFromObject(obj)},
			{NamespacedName: client.ObjectKey{Namespace: w.Namespace, Name: obj.GetName()}},
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
func (w *watcher) networksFor(kind string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, ns client.Object) []reconcile.Request {
		var out []reconcile.Request
		for _, home := range []string{w.Namespace, ns.GetName()} {
			_ = w.each(ctx, kind, home, func(obj client.Object) {
				if source, ok := nad.SourceOf(obj); ok && (home == ns.GetName() || source.Target() == ns.GetName()) {
					out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(obj)})
				}
			})
		}
		return out
	})
}

// each visits a namespace's networks of one kind.
func (w *watcher) each(ctx context.Context, kind, namespace string, visit func(client.Object)) error {
	obj, err := w.client.Scheme().New(schema.GroupVersionKind{Group: v1.GroupVersion.Group, Version: v1.GroupVersion.Version, Kind: kind + "List"})
	if err != nil {
		return err
	}
	if err := w.client.List(ctx, obj.(client.ObjectList), client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	items, err := meta.ExtractList(obj)
	for _, i := range items {
		visit(i.(client.Object))
	}
	return err
}
