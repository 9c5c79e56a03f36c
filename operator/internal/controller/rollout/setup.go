// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"errors"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/admission"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

// Setup adds what brings about what the SriovOperatorConfig asks for.
func Setup(mgr ctrl.Manager, c *apiclient.Client, o env.Operator, images deploy.Images) error {
	r := &reconciler{Client: c, Operator: o, Images: images, Live: mgr.GetAPIReader(), swept: map[string]bool{}}
	if o.CreateConfig {
		if err := mgr.Add(manager.RunnableFunc(r.create)); err != nil {
			return err
		}
	}
	toConfig := handler.EnqueueRequestsFromMapFunc(o.ToConfig)
	return ctrl.NewControllerManagedBy(mgr).Named("config").For(&v1.SriovOperatorConfig{}).
		Owns(&appsv1.DaemonSet{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})). // not the news of every pod
		Owns(&corev1.Service{}).Owns(&corev1.Secret{}).
		Watches(&admissionv1.MutatingWebhookConfiguration{}, toConfig).
		Watches(&admissionv1.ValidatingWebhookConfiguration{}, toConfig).
		Watches(&corev1.Namespace{}, toConfig, builder.WithPredicates(o.Leaves())).
		Complete(r)
}

// SetupWebhooks serves webhooks in every replica, also while it waits for the lease.
func SetupWebhooks(mgr ctrl.Manager, o env.Operator, c *Certificate) error {
	if o.WebhookAddress == "" {
		return nil
	}
	c.Client, c.Live = &apiclient.Client{Client: mgr.GetClient()}, mgr.GetAPIReader()
	toConfig := handler.EnqueueRequestsFromMapFunc(o.ToConfig)
	return errors.Join(
		ctrl.NewControllerManagedBy(mgr).Named("certificate").
			For(&v1.SriovOperatorConfig{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
			Watches(&corev1.Secret{}, toConfig).
			WithOptions(controller.Options{NeedLeaderElection: new(false)}).
			Complete(c),
		admission.Register(mgr, o.Namespace, o.ResourcePrefix),
	)
}
