// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// modeChange is what becomes of a Node's label of the mode.
type modeChange int

const (
	modeKept    modeChange = iota
	modeToDRA              // set, and remembered that the operator did
	modeRemoved            // taken away, and the memory of it
)

// add puts the change into a patch.
func (m modeChange) add(labels, annotations map[string]any) {
	switch m {
	case modeToDRA:
		labels[v1.LabelResourceMode], annotations[v1.AnnotationModeSet] = v1.ResourceModeDRA, "true"
	case modeRemoved:
		labels[v1.LabelResourceMode], annotations[v1.AnnotationModeSet] = nil, nil
	}
}

// mode is what has to become of the label. Nobody having asked the operator for DRA, only a
// label that it set itself is its business.
func (r *NodePlanner) mode(ctx context.Context, cfg *v1.SriovOperatorConfig, node *metav1.PartialObjectMetadata, pools []*v1.SriovNetworkPoolConfig) (modeChange, error) {
	if !draServed(cfg) {
		return modeOff(node, false), nil
	}
	wanted, err := r.draWanted(ctx, r, cfg)
	if err != nil || !wanted {
		return modeOff(node, false), err
	}
	switch mode, known := plan.NodeMode(pools, draDefault(cfg)); {
	case !known:
		return modeKept, nil
	case mode != v1.ResourceModeDRA:
		return modeOff(node, true), nil
	case node.Labels[v1.LabelResourceMode] == v1.ResourceModeDRA:
		return modeKept, nil
	}
	return modeToDRA, nil
}

// modeOff takes the label away, if the operator set it; an admin's only if others too.
func modeOff(node *metav1.PartialObjectMetadata, others bool) modeChange {
	own := node.Annotations[v1.AnnotationModeSet] != ""
	if own || others && node.Labels[v1.LabelResourceMode] == v1.ResourceModeDRA {
		return modeRemoved
	}
	return modeKept
}

// modeNews passes updates of pools that say another mode than before.
var modeNews = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	was, had := e.ObjectOld.GetAnnotations()[v1.LabelResourceMode]
	is, has := e.ObjectNew.GetAnnotations()[v1.LabelResourceMode]
	return was != is || had != has
}}

// servedNews passes updates of the configuration after which DRA is in use, or no more.
var servedNews = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	was, is := e.ObjectOld.(*v1.SriovOperatorConfig), e.ObjectNew.(*v1.SriovOperatorConfig)
	return draServed(was) != draServed(is)
}}

// markNews passes events of Nodes on which the operator has set or taken away the label.
var markNews = predicate.Funcs{
	CreateFunc: func(event.CreateEvent) bool { return false },
	UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetAnnotations()[v1.AnnotationModeSet] != e.ObjectNew.GetAnnotations()[v1.AnnotationModeSet]
	},
	DeleteFunc: func(e event.DeleteEvent) bool { return e.Object.GetAnnotations()[v1.AnnotationModeSet] != "" },
}

func setupClasses(mgr ctrl.Manager, c *Client, o Operator) error {
	r := &DeviceClasses{Client: c, Operator: o, Live: mgr.GetAPIReader()}
	toConfig := handler.EnqueueRequestsFromMapFunc(o.toConfig)
	generation := builder.WithPredicates(predicate.GenerationChangedPredicate{})
	ctl, err := ctrl.NewControllerManagedBy(mgr).Named("deviceclasses").
		Watches(&v1.SriovOperatorConfig{}, toConfig).
		Watches(&v1.SriovNetworkPoolConfig{}, toConfig, builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, modeNews))).
		Watches(&v1.SriovNetworkNodePolicy{}, toConfig, generation).
		Watches(&corev1.Namespace{}, toConfig, builder.WithPredicates(o.leaves())).
		WatchesMetadata(&corev1.Node{}, toConfig, builder.WithPredicates(markNews)).
		Build(r)
	if err != nil {
		return err
	}
	// Later, and of an API server that has the kind: a watch of one that has not never starts.
	r.Watch = func() error {
		var class metav1.PartialObjectMetadata
		class.SetGroupVersionKind(resourcev1.SchemeGroupVersion.WithKind("DeviceClass"))
		return ctl.Watch(source.Kind[client.Object](mgr.GetCache(), &class, handler.TypedEnqueueRequestsFromMapFunc[client.Object, reconcile.Request](o.toConfig)))
	}
	return nil
}
