// SPDX-License-Identifier: Apache-2.0

package pools

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/workqueue"
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
)

// countEvery bounds how often the nodes of one pool are counted while the labels of many
// change.
const countEvery = time.Second

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// Setup adds what writes the status of pools.
func Setup(mgr ctrl.Manager, c *apiclient.Client, o env.Operator) error {
	w := &watcher{client: c, Operator: o}
	return ctrl.NewControllerManagedBy(mgr).Named("pools").
		For(&v1.SriovNetworkPoolConfig{}).
		Watches(&v1.SriovNetworkPoolConfig{}, w.everyPool(), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesMetadata(&corev1.Node{}, w.poolsOfNode(), builder.WithPredicates(predicate.LabelChangedPredicate{})).
		Complete(&status{Client: c, Operator: o})
}

// watcher maps events to the pools they concern.
type watcher struct {
	client client.Client
	env.Operator
	selectors Selectors
}

// everyPool enqueues all pools when one changes: it may share nodes with another, or may have
// done so.
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
		for i, selector := range w.selectors.all(pools.Items) {
			in := func(node client.Object) bool { return node != nil && selects(selector, node.GetLabels()) }
			before, now := in(was), in(is)
			if before || now {
				touched = append(touched, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&pools.Items[i])})
			}
			moved = moved || before != now
		}
		for _, r := range touched {
			if moved {
				q.AddAfter(r, countEvery)
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { wake(ctx, q, nil, e.Object) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { wake(ctx, q, e.Object, nil) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) { wake(ctx, q, e.ObjectOld, e.ObjectNew) },
	}
}
