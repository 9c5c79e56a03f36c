// SPDX-License-Identifier: Apache-2.0

package dra

import (
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
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
)

// Setup adds what keeps the DeviceClasses.
func Setup(mgr ctrl.Manager, c *apiclient.Client, o env.Operator) error {
	r := &reconciler{Client: c, Operator: o, Live: mgr.GetAPIReader()}
	toConfig := handler.EnqueueRequestsFromMapFunc(o.ToConfig)
	generation := builder.WithPredicates(predicate.GenerationChangedPredicate{})
	ctl, err := ctrl.NewControllerManagedBy(mgr).Named("deviceclasses").
		Watches(&v1.SriovOperatorConfig{}, toConfig).
		Watches(&v1.SriovNetworkPoolConfig{}, toConfig, builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, ModeNews))).
		Watches(&v1.SriovNetworkNodePolicy{}, toConfig, generation).
		Watches(&corev1.Namespace{}, toConfig, builder.WithPredicates(o.Leaves())).
		WatchesMetadata(&corev1.Node{}, toConfig, builder.WithPredicates(markNews)).
		Build(r)
	if err != nil {
		return err
	}
	// Later, and of an API server that has the kind: a watch of one that has not never starts.
	r.Watch = func() error {
		var class metav1.PartialObjectMetadata
		class.SetGroupVersionKind(resourcev1.SchemeGroupVersion.WithKind("DeviceClass"))
		return ctl.Watch(source.Kind[client.Object](mgr.GetCache(), &class, handler.TypedEnqueueRequestsFromMapFunc[client.Object, reconcile.Request](o.ToConfig)))
	}
	return nil
}

// ModeNews passes updates of pools that say another mode than before.
var ModeNews = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	was, had := e.ObjectOld.GetAnnotations()[v1.LabelResourceMode]
	is, has := e.ObjectNew.GetAnnotations()[v1.LabelResourceMode]
	return was != is || had != has
}}

// ServedNews passes updates of the configuration after which DRA is in use, or no more.
var ServedNews = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	was, is := e.ObjectOld.(*v1.SriovOperatorConfig), e.ObjectNew.(*v1.SriovOperatorConfig)
	return Served(was) != Served(is)
}}

// markNews passes events of Nodes on which the operator has set or taken away the label.
var markNews = predicate.Funcs{
	CreateFunc: func(event.CreateEvent) bool { return false },
	UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetAnnotations()[v1.AnnotationModeSet] != e.ObjectNew.GetAnnotations()[v1.AnnotationModeSet]
	},
	DeleteFunc: func(e event.DeleteEvent) bool { return e.Object.GetAnnotations()[v1.AnnotationModeSet] != "" },
}
