// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/admission"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// parallel work items of one kind. They wait for the API server, not for the CPU.
const parallel = 16

// parallelDrains at a time: one whose evictions are not answered takes seconds, and must
// not keep other nodes waiting.
const parallelDrains = 64

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// New makes a manager with all reconcilers. It caches no more than they read.
func New(cfg *rest.Config, o Operator, images deploy.Images, opts ctrl.Options) (ctrl.Manager, error) {
	informers, err := newInformer(cfg, opts.Scheme, o.Namespace)
	if err != nil {
		return nil, err
	}
	whole := func(in any) (any, error) { return in, nil }
	hooks := labels.SelectorFromSet(labels.Set{deploy.WebhookLabel: "true"})
	own := cache.ByObject{Namespaces: map[string]cache.Config{o.Namespace: {}}}
	opts.Cache = cache.Options{
		NewInformer:      informers,
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&v1.SriovNetworkNodePolicy{}: own, &v1.SriovNetworkNodeState{}: own, &v1.SriovOperatorConfig{}: own, &v1.SriovNetworkPoolConfig{}: own,
			// Whose apply made these is told by their managed fields.
			&appsv1.DaemonSet{}:                           {Namespaces: own.Namespaces, Transform: whole},
			&corev1.Service{}:                             {Namespaces: own.Namespaces, Transform: whole},
			&admissionv1.MutatingWebhookConfiguration{}:   {Label: hooks, Transform: whole},
			&admissionv1.ValidatingWebhookConfiguration{}: {Label: hooks, Transform: whole},
			&corev1.Secret{}:                              {Namespaces: own.Namespaces, Field: fields.OneTermEqualSelector("metadata.name", deploy.WebhookSecret)},
		},
	}
	opts.MapperProvider = newMapper
	certificate := &Certificate{Operator: o, Now: time.Now}
	if o.WebhookAddress != "" {
		server, err := webhookServer(o.WebhookAddress, certificate)
		if err != nil {
			return nil, err
		}
		opts.WebhookServer = server
	}
	mgr, err := ctrl.NewManager(cfg, opts)
	if err != nil {
		return nil, err
	}
	if err := setup(mgr, o, images, certificate); meta.IsNoMatchError(err) {
		return nil, fmt.Errorf("%w: apply the CRDs under config/crd, and that of NetworkAttachmentDefinition", err)
	} else if err != nil {
		return nil, err
	}
	return mgr, nil
}

func setup(mgr ctrl.Manager, o Operator, images deploy.Images, certificate *Certificate) error {
	c, err := newClient(mgr)
	if err != nil {
		return err
	}
	for _, err := range []error{
		mgr.GetFieldIndexer().IndexField(context.Background(), &nad.NetworkAttachmentDefinition{}, OwnerIndex, Owner),
		mgr.Add(&standings{Reader: mgr.GetClient(), namespace: o.Namespace}),
		setupNodes(mgr, c, o), setupDrain(mgr, c, o), setupNetworks(mgr, c, o), setupConfig(mgr, c, o, images), setupClasses(mgr, c, o), setupWebhooks(mgr, o, certificate),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func setupConfig(mgr ctrl.Manager, c *Client, o Operator, images deploy.Images) error {
	r := &Config{Client: c, Operator: o, Images: images, Live: mgr.GetAPIReader(), swept: map[string]bool{}}
	if o.CreateConfig {
		if err := mgr.Add(manager.RunnableFunc(r.create)); err != nil {
			return err
		}
	}
	toConfig := handler.EnqueueRequestsFromMapFunc(o.toConfig)
	return ctrl.NewControllerManagedBy(mgr).Named("config").For(&v1.SriovOperatorConfig{}).
		Owns(&appsv1.DaemonSet{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})). // not the news of every pod
		Owns(&corev1.Service{}).Owns(&corev1.Secret{}).
		Watches(&admissionv1.MutatingWebhookConfiguration{}, toConfig).
		Watches(&admissionv1.ValidatingWebhookConfiguration{}, toConfig).
		Watches(&corev1.Namespace{}, toConfig, builder.WithPredicates(predicate.NewPredicateFuncs(func(ns client.Object) bool {
			return ns.GetName() == o.Namespace && !ns.GetDeletionTimestamp().IsZero()
		}))).
		Complete(r)
}

// setupWebhooks serves webhooks in every replica, also while it waits for the lease.
func setupWebhooks(mgr ctrl.Manager, o Operator, c *Certificate) error {
	if o.WebhookAddress == "" {
		return nil
	}
	c.Client, c.Live = &Client{Client: mgr.GetClient()}, mgr.GetAPIReader()
	toConfig := handler.EnqueueRequestsFromMapFunc(o.toConfig)
	return errors.Join(
		ctrl.NewControllerManagedBy(mgr).Named("certificate").
			For(&v1.SriovOperatorConfig{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
			Watches(&corev1.Secret{}, toConfig).
			WithOptions(controller.Options{NeedLeaderElection: new(false)}).
			Complete(c),
		admission.Register(mgr, o.Namespace, o.ResourcePrefix),
	)
}

// toConfig maps whatever concerns the configuration to its one work item.
func (o *Operator) toConfig(context.Context, client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: o.Namespace, Name: v1.DefaultConfigName}}}
}

// toNode maps an object to the work item of the node it is named after.
func (o *Operator) toNode(_ context.Context, obj client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: o.Namespace, Name: obj.GetName()}}}
}

func setupNodes(mgr ctrl.Manager, c *Client, o Operator) error {
	changed := make(chan event.GenericEvent, 1024)
	board := &Board{Changed: func(policies []string) {
		for _, p := range policies {
			changed <- event.GenericEvent{Object: &v1.SriovNetworkNodePolicy{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: p}}}
		}
	}}
	nodes := &NodePlanner{Client: c, Operator: o, Live: mgr.GetAPIReader(), Board: board, Leaving: &leaving{live: mgr.GetAPIReader(), now: time.Now}}
	w := watcher{client: c, Operator: o}
	status := &PolicyStatus{Client: c, Operator: o, Board: board}

	later := func(q queue, obj client.Object) {
		q.AddAfter(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(obj)}, statusEvery)
	}
	return errors.Join(
		ctrl.NewControllerManagedBy(mgr).Named("nodes").
			WatchesMetadata(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(o.toNode), builder.WithPredicates(nodes.NodeNews())).
			Watches(&v1.SriovNetworkNodeState{}, handler.EnqueueRequestsFromMapFunc(o.toNode), builder.WithPredicates(nodes.News())).
			Watches(&v1.SriovNetworkNodePolicy{}, w.policies(), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
			Watches(&v1.SriovNetworkPoolConfig{}, w.everyNode(), builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, modeNews))).
			Watches(&v1.SriovOperatorConfig{}, w.everyNode(), builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, servedNews))).
			Watches(&corev1.Namespace{}, w.everyNode(), builder.WithPredicates(o.leaves())).
			WithOptions(controller.Options{MaxConcurrentReconciles: parallel}).
			Complete(nodes),
		ctrl.NewControllerManagedBy(mgr).Named("policystatus").
			For(&v1.SriovNetworkNodePolicy{}). // also of the status that was written: the cache may have hidden it
			WatchesRawSource(source.Channel(changed, handler.Funcs{
				GenericFunc: func(_ context.Context, e event.GenericEvent, q queue) { later(q, e.Object) },
			})).
			Complete(status),
		ctrl.NewControllerManagedBy(mgr).Named("pools").
			For(&v1.SriovNetworkPoolConfig{}).
			Watches(&v1.SriovNetworkPoolConfig{}, w.everyPool(), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
			WatchesMetadata(&corev1.Node{}, w.poolsOfNode(), builder.WithPredicates(predicate.LabelChangedPredicate{})).
			Complete(&PoolStatus{Client: c, Operator: o}),
	)
}

func setupDrain(mgr ctrl.Manager, c *Client, o Operator) error {
	wake := make(chan event.GenericEvent, 1024)
	w := watcher{client: c, Operator: o}
	drainer := &Drainer{Client: c, Operator: o, Live: mgr.GetAPIReader(), Wake: func(nodes []string) {
		for _, n := range nodes {
			wake <- event.GenericEvent{Object: &v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: n}}}
		}
	}}
	return ctrl.NewControllerManagedBy(mgr).Named("drain").
		For(&v1.SriovNetworkNodeState{}, builder.WithPredicates(predicate.AnnotationChangedPredicate{})).
		WatchesMetadata(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(o.toNode), builder.WithPredicates(drainNews)).
		Watches(&v1.SriovNetworkPoolConfig{}, w.waitingNodes(), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1.SriovOperatorConfig{}, w.waitingNodes(), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Namespace{}, w.waitingNodes(), builder.WithPredicates(o.leaves())).
		WatchesRawSource(source.Channel(wake, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: parallelDrains}).
		Complete(drainer)
}

// leaves passes the event that the operator's Namespace is being deleted.
func (o *Operator) leaves() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(ns client.Object) bool {
		return ns.GetName() == o.Namespace && !ns.GetDeletionTimestamp().IsZero()
	})
}

// drainNews passes events of Nodes that may be in another pool now, or whose annotations
// of the drain handshake have changed: what a late cache has hidden is looked at again.
var drainNews = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	was, is := e.ObjectOld.GetAnnotations(), e.ObjectNew.GetAnnotations()
	return !maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels()) ||
		was[v1.AnnotationNodeState] != is[v1.AnnotationNodeState] || was[v1.AnnotationCordoned] != is[v1.AnnotationCordoned]
}}

func setupNetworks(mgr ctrl.Manager, c *Client, o Operator) error {
	var errs []error
	for _, kind := range []string{"SriovNetwork", "SriovIBNetwork", "OVSNetwork"} {
		r := &Network{Client: c, Operator: o, Live: mgr.GetAPIReader(), Kind: kind}
		w := watcher{client: c, Operator: o}
		errs = append(errs, ctrl.NewControllerManagedBy(mgr).Named(kind).
			For(r.New()). // also of the condition that was written: the cache may have hidden it
			Watches(&nad.NetworkAttachmentDefinition{}, w.networkOf(kind)).
			Watches(&corev1.Namespace{}, w.networksFor(kind), builder.WithPredicates(predicate.Funcs{
				UpdateFunc: func(e event.UpdateEvent) bool {
					was, had := e.ObjectOld.GetAnnotations()[v1.AnnotationAllowedResources]
					is, has := e.ObjectNew.GetAnnotations()[v1.AnnotationAllowedResources]
					return was != is || had != has
				},
			})).
			Complete(r))
	}
	return errors.Join(errs...)
}

// selects is plan.SelectsNode with the policy as an event brings it.
func selects(obj client.Object, labels map[string]string) bool {
	p, ok := obj.(*v1.SriovNetworkNodePolicy)
	return ok && plan.SelectsNode(p, labels)
}
