// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/dra"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// parallel nodes are planned at a time. They wait for the API server, not for the CPU. More at
// a time make a change of a policy a fifth cheaper and wait longer each, so that reports of daemons
// overtake them: with 64, and 1 000 new nodes on a busy API server, two of three writes of node
// states were refused as conflicts.
const parallel = 16

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// Setup adds what plans nodes and what sums their plans up by policy.
func Setup(mgr ctrl.Manager, c *apiclient.Client, o env.Operator) error {
	changed := make(chan event.GenericEvent, 1024)
	all := &board{Changed: func(policies []string) {
		for _, p := range policies {
			changed <- event.GenericEvent{Object: &v1.SriovNetworkNodePolicy{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: p}}}
		}
	}}
	nodes := &planner{Client: c, Operator: o, Live: mgr.GetAPIReader(), Board: all, Leaving: &leaving{live: mgr.GetAPIReader(), now: time.Now}}
	w := watcher{client: c, Operator: o}
	later := func(q queue, obj client.Object) {
		q.AddAfter(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(obj)}, statusEvery)
	}
	return errors.Join(
		ctrl.NewControllerManagedBy(mgr).Named("nodes").
			WatchesMetadata(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(o.ToNode), builder.WithPredicates(nodes.NodeNews())).
			Watches(&v1.SriovNetworkNodeState{}, handler.EnqueueRequestsFromMapFunc(o.ToNode), builder.WithPredicates(nodes.News())).
			Watches(&v1.SriovNetworkNodePolicy{}, w.policies(), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
			Watches(&v1.SriovNetworkPoolConfig{}, w.everyNode(), builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, dra.ModeNews))).
			Watches(&v1.SriovOperatorConfig{}, w.everyNode(), builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, dra.ServedNews))).
			Watches(&corev1.Namespace{}, w.everyNode(), builder.WithPredicates(o.Leaves())).
			WithOptions(controller.Options{MaxConcurrentReconciles: parallel}).
			Complete(nodes),
		ctrl.NewControllerManagedBy(mgr).Named("policystatus").
			For(&v1.SriovNetworkNodePolicy{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
			// Also of the status that was written, for the cache may have hidden what came before
			// it; but not at once, or a status would follow the other while nodes report.
			Watches(&v1.SriovNetworkNodePolicy{}, handler.Funcs{
				UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) { later(q, e.ObjectNew) },
			}).
			WatchesRawSource(source.Channel(changed, handler.Funcs{
				GenericFunc: func(_ context.Context, e event.GenericEvent, q queue) { later(q, e.Object) },
			})).
			Complete(&policyStatus{Client: c, Operator: o, Board: all}),
	)
}

// watcher maps events to the nodes they concern.
type watcher struct {
	client client.Client
	env.Operator
}

// nodes enqueues the nodes whose labels pass.
func (w *watcher) nodes(ctx context.Context, q queue, pass func(labels map[string]string) bool) {
	list := env.NodeMetaList()
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
		nodes := env.NodeMetaList()
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

// selects is plan.SelectsNode with the policy as an event brings it.
func selects(obj client.Object, labels map[string]string) bool {
	p, ok := obj.(*v1.SriovNetworkNodePolicy)
	return ok && plan.SelectsNode(p, labels)
}
