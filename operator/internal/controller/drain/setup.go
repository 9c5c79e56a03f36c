// SPDX-License-Identifier: Apache-2.0

package drain

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
)

// parallel drains at a time: one whose evictions are not answered takes seconds, and must
// not keep other nodes waiting.
const parallel = 64

// Setup adds the operator's part of the drain handshake.
func Setup(mgr ctrl.Manager, c *apiclient.Client, o env.Operator) error {
	wake := make(chan event.GenericEvent, 1024)
	r := &drainer{Client: c, Operator: o, Live: mgr.GetAPIReader(), Wake: func(nodes []string) {
		for _, n := range nodes {
			wake <- event.GenericEvent{Object: &v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: n}}}
		}
	}}
	return ctrl.NewControllerManagedBy(mgr).Named("drain").
		For(&v1.SriovNetworkNodeState{}, builder.WithPredicates(predicate.AnnotationChangedPredicate{})).
		WatchesMetadata(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(o.ToNode), builder.WithPredicates(nodeNews)).
		Watches(&v1.SriovNetworkPoolConfig{}, r.waitingNodes(), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1.SriovOperatorConfig{}, r.waitingNodes(), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Namespace{}, r.waitingNodes(), builder.WithPredicates(o.Leaves())).
		WatchesRawSource(source.Channel(wake, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: parallel}).
		Complete(r)
}

// nodeNews passes events of Nodes that may be in another pool now, or whose annotations
// of the drain handshake have changed: what a late cache has hidden is looked at again.
var nodeNews = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	was, is := e.ObjectOld.GetAnnotations(), e.ObjectNew.GetAnnotations()
	return !maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels()) ||
		was[v1.AnnotationNodeState] != is[v1.AnnotationNodeState] || was[v1.AnnotationCordoned] != is[v1.AnnotationCordoned]
}}

// waitingNodes wakes the nodes that wait to be drained, and those being drained.
func (r *drainer) waitingNodes() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
		var states v1.SriovNetworkNodeStateList
		if r.List(ctx, &states, client.InNamespace(r.Namespace), client.UnsafeDisableDeepCopy) != nil {
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
