// SPDX-License-Identifier: Apache-2.0

// Package controller puts the operator's reconcilers together. Each topic has a package
// below this one: nodes (what policies mean for a node), drain, pools, networks, rollout
// (what the SriovOperatorConfig asks for) and dra. They translate between the API server
// and the packages that decide (plan, nad, deploy), and each works on the smallest piece
// that an event concerns: a node, a network, the configuration. What they share is in env
// (the operator's settings) and apiclient.
//
// Nothing here depends on a periodic resync, sets a finalizer, or keeps a Node or
// NodeState busy when nothing changed.
//
// The tests of this package run all of them beside a real API server; what needs none is
// tested in the topic's own package.
package controller

import (
	"fmt"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/dra"
	"github.com/sriovkit/sriovkit/operator/internal/controller/drain"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/controller/networks"
	"github.com/sriovkit/sriovkit/operator/internal/controller/nodes"
	"github.com/sriovkit/sriovkit/operator/internal/controller/pools"
	"github.com/sriovkit/sriovkit/operator/internal/controller/rollout"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

// New makes a manager with all reconcilers. It caches no more than they read.
func New(cfg *rest.Config, o env.Operator, images deploy.Images, opts ctrl.Options) (ctrl.Manager, error) {
	informers, err := apiclient.NewInformer(cfg, opts.Scheme, o.Namespace)
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
	opts.MapperProvider = apiclient.NewMapper
	certificate := &rollout.Certificate{Operator: o, Now: time.Now}
	if o.WebhookAddress != "" {
		server, err := rollout.WebhookServer(certificate)
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

func setup(mgr ctrl.Manager, o env.Operator, images deploy.Images, certificate *rollout.Certificate) error {
	c, err := apiclient.New(mgr.GetClient(), mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return err
	}
	for _, err := range []error{
		mgr.Add(&standings{Reader: mgr.GetClient(), namespace: o.Namespace}),
		nodes.Setup(mgr, c, o), pools.Setup(mgr, c, o), drain.Setup(mgr, c, o), networks.Setup(mgr, c, o),
		rollout.Setup(mgr, c, o, images), rollout.SetupWebhooks(mgr, o, certificate), dra.Setup(mgr, c, o),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}
