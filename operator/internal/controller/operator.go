// SPDX-License-Identifier: Apache-2.0

// Package controller holds the operator's reconcilers. They translate between the API
// server and the packages that decide (plan, nad, deploy), and each works on the
// smallest piece that an event concerns: a node, a network, the configuration.
//
// Nothing here depends on a periodic resync, sets a finalizer, or keeps a Node or
// NodeState busy when nothing changed.
package controller

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

// FieldOwner of what the operator applies.
const FieldOwner = client.FieldOwner("sriovkit-operator")

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
}

// config reads the SriovOperatorConfig that counts; nil if there is none, it is being
// deleted, or all is. It is the cache's own: for reading.
func (o *Operator) config(ctx context.Context, c client.Reader) (*v1.SriovOperatorConfig, error) {
	var cfg v1.SriovOperatorConfig
	err := c.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: v1.DefaultConfigName}, &cfg, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	if err != nil || !cfg.DeletionTimestamp.IsZero() {
		return nil, nil
	}
	if leaving, err := o.leaving(ctx, c); err != nil || leaving {
		return nil, err
	}
	return &cfg, nil
}

// leaving reports whether the operator's Namespace is being deleted: then little time is
// left to take away what is on objects of the cluster, before the rights to do so go too.
func (o *Operator) leaving(ctx context.Context, c client.Reader) (bool, error) {
	var ns corev1.Namespace
	if err := c.Get(ctx, client.ObjectKey{Name: o.Namespace}, &ns, client.UnsafeDisableDeepCopy); err != nil {
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	}
	return !ns.DeletionTimestamp.IsZero(), nil
}

// nodeMeta is how Nodes are watched and cached: their names, labels and annotations.
// Status updates of thousands of kubelets are of no interest.
func nodeMeta() *metav1.PartialObjectMetadata {
	var n metav1.PartialObjectMetadata
	n.SetGroupVersionKind(nodeKind)
	return &n
}

func nodeMetaList() *metav1.PartialObjectMetadataList {
	var l metav1.PartialObjectMetadataList
	l.SetGroupVersionKind(nodeKind.GroupVersion().WithKind("NodeList"))
	return &l
}
