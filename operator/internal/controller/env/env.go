// SPDX-License-Identifier: Apache-2.0

// Package env has what all reconcilers share: the settings of this operator, and how events of
// shared objects map to work items.
package env

import (
	"context"
	"crypto/tls"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

// Operator is what its environment tells every reconciler.
type Operator struct {
	Namespace      string // the operator's own: policies, node states and configuration live here
	ResourcePrefix string // of extended resources, such as "openshift.io"
	// ExternalDrainer leaves draining to a third party.
	ExternalDrainer bool
	// KeepStaleMinutes is how long the state of a node that went away is kept.
	KeepStaleMinutes int
	// CreateConfig makes the configuration, for all Linux nodes, if there is none at start.
	CreateConfig bool
	CNIBinDir    string // on the nodes
	Host         deploy.HostPaths
	MetricsPort  int // of the device plugins on the nodes, with the gate metricsExporter
	// WebhookAddress, host:port, is where webhooks are served; empty serves none.
	WebhookAddress string
	// WebhookURL is where API servers reach them if not through the Service of the
	// manifests: https://host:port.
	WebhookURL string
	// TLS sets what the webhooks' server offers: version, suites, groups. Nil is TLS 1.3.
	TLS func(*tls.Config)
}

// Config reads the SriovOperatorConfig that counts; nil if there is none, it is being
// deleted, or all is. It is the cache's own: for reading.
func (o *Operator) Config(ctx context.Context, c client.Reader) (*v1.SriovOperatorConfig, error) {
	var cfg v1.SriovOperatorConfig
	err := c.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: v1.DefaultConfigName}, &cfg, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	if err != nil || !cfg.DeletionTimestamp.IsZero() {
		return nil, nil
	}
	if leaving, err := o.Uninstalling(ctx, c); err != nil || leaving {
		return nil, err
	}
	return &cfg, nil
}

// Uninstalling reports whether the operator's Namespace is being deleted: then little time is
// left to take away what is on objects of the cluster, before the rights to do so go too.
func (o *Operator) Uninstalling(ctx context.Context, c client.Reader) (bool, error) {
	var ns corev1.Namespace
	if err := c.Get(ctx, client.ObjectKey{Name: o.Namespace}, &ns, client.UnsafeDisableDeepCopy); err != nil {
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	}
	return !ns.DeletionTimestamp.IsZero(), nil
}

// NodeKind is the kind of Nodes.
var NodeKind = corev1.SchemeGroupVersion.WithKind("Node")

// NodeMeta is how Nodes are watched and cached: their names, labels and annotations.
// Status updates of thousands of kubelets are of no interest.
func NodeMeta() *metav1.PartialObjectMetadata {
	var n metav1.PartialObjectMetadata
	n.SetGroupVersionKind(NodeKind)
	return &n
}

// NodeMetaList is a list of what NodeMeta is.
func NodeMetaList() *metav1.PartialObjectMetadataList {
	var l metav1.PartialObjectMetadataList
	l.SetGroupVersionKind(NodeKind.GroupVersion().WithKind("NodeList"))
	return &l
}

// ToConfig maps whatever concerns the configuration to its one work item.
func (o *Operator) ToConfig(context.Context, client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: o.Namespace, Name: v1.DefaultConfigName}}}
}

// ToNode maps an object to the work item of the node it is named after.
func (o *Operator) ToNode(_ context.Context, obj client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: o.Namespace, Name: obj.GetName()}}}
}

// Leaves passes the event that the operator's Namespace is being deleted.
func (o *Operator) Leaves() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(ns client.Object) bool {
		return ns.GetName() == o.Namespace && !ns.GetDeletionTimestamp().IsZero()
	})
}
