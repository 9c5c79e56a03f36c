// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/meta"
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
	modeKept      modeChange = iota
	modeToDRA                // set, and remembered that the operator did
	modeToLeaving            // likewise
	modeToRest               // likewise
	modeRemoved              // taken away, and the memory of it
)

// modeLabels are the values that the label is set to.
var modeLabels = map[modeChange]string{
	modeToDRA: v1.ResourceModeDRA, modeToLeaving: v1.ResourceModeLeaving, modeToRest: v1.ResourceModeRest,
}

// add puts the change into a patch.
func (m modeChange) add(labels, annotations map[string]any) {
	switch m {
	case modeKept:
	case modeRemoved:
		labels[v1.LabelResourceMode], annotations[v1.AnnotationModeSet] = nil, nil
	default:
		labels[v1.LabelResourceMode], annotations[v1.AnnotationModeSet] = modeLabels[m], "true"
	}
}

// modeTurn is what becomes of a node's mode.
type modeTurn struct {
	change modeChange
	// wait is what a node waits for that leaves mode dra; "" leaves none.
	wait  string
	again time.Duration // until the next look; 0 for none
}

// mode is what has to become of the label. Nobody having asked the operator for DRA, only a
// label that it set itself is its business.
func (r *NodePlanner) mode(ctx context.Context, cfg *v1.SriovOperatorConfig, node *metav1.PartialObjectMetadata, pools []*v1.SriovNetworkPoolConfig) (modeTurn, error) {
	if !draServed(cfg) {
		return r.modeOff(ctx, node, false), nil
	}
	wanted, err := r.draWanted(ctx, r, cfg)
	if err != nil {
		return modeTurn{}, err
	}
	if !wanted {
		return r.modeOff(ctx, node, false), nil
	}
	switch mode, known := plan.NodeMode(pools, draDefault(cfg)); {
	case !known:
		return modeTurn{}, nil
	case mode != v1.ResourceModeDRA:
		return r.modeOff(ctx, node, true), nil
	case node.Labels[v1.LabelResourceMode] == v1.ResourceModeDRA:
		return modeTurn{}, nil
	}
	return modeTurn{change: modeToDRA}, nil
}

// modeOff brings the node out of mode dra, if the operator brought it there; out of an
// admin's only if others too. Pods that have claims come first.
func (r *NodePlanner) modeOff(ctx context.Context, node *metav1.PartialObjectMetadata, others bool) modeTurn {
	if !modeOurs(node, others) {
		return modeTurn{}
	}
	mode := node.Labels[v1.LabelResourceMode]
	if !slices.Contains(slices.Collect(maps.Values(modeLabels)), mode) { // somebody else ended it
		return modeTurn{change: modeRemoved}
	}
	change, wait := r.Leaving.step(ctx, node.Name, mode)
	turn := modeTurn{change: change, wait: wait, again: leavingAgain}
	if mode == v1.ResourceModeRest {
		turn.again = restAgain
	}
	if change == modeRemoved {
		turn.again = 0
	}
	return turn
}

// modeOurs reports whether a label of a mode is the operator's business.
func modeOurs(node *metav1.PartialObjectMetadata, others bool) bool {
	own := node.Annotations[v1.AnnotationModeSet] != ""
	mode := node.Labels[v1.LabelResourceMode]
	return own || others && mode != "" && slices.Contains(slices.Collect(maps.Values(modeLabels)), mode)
}

// modeCondition says on the node state what its node waits for; nil is no news.
func modeCondition(state *v1.SriovNetworkNodeState, turn modeTurn) *metav1.Condition {
	had := meta.FindStatusCondition(state.Status.Conditions, v1.ConditionMode)
	cond := &metav1.Condition{Type: v1.ConditionMode, Status: metav1.ConditionTrue, Reason: v1.ReasonModeSet, ObservedGeneration: state.Generation}
	if turn.wait != "" {
		cond.Status, cond.Reason, cond.Message = metav1.ConditionFalse, v1.ReasonLeavingDRA, turn.wait
		return cond
	}
	if had == nil || had.Status == metav1.ConditionTrue {
		return nil
	}
	return cond
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
