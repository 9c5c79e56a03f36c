// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"errors"
	"fmt"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/certs"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

var errNoCertificate = errors.New("waiting for the certificate of the webhooks")

func webhookClient(o *env.Operator, ca []byte) deploy.WebhookClient {
	return deploy.WebhookClient{Namespace: o.Namespace, URL: o.WebhookURL, CABundle: ca}
}

// webhooks brings the webhook configurations to what spec asks for. They belong to the
// whole cluster, so no object of a namespace can own them: the Namespace of the operator
// does, for garbage collection, and what happens before is done here.
func (r *reconciler) webhooks(ctx context.Context, spec *v1.SriovOperatorConfigSpec) error {
	var ns corev1.Namespace
	err := r.Get(ctx, client.ObjectKey{Name: r.Namespace}, &ns)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if err != nil || !ns.DeletionTimestamp.IsZero() {
		spec = &v1.SriovOperatorConfigSpec{} // being uninstalled: nobody will answer
	}
	var secret corev1.Secret
	if deploy.WantsWebhooks(spec) {
		if r.WebhookAddress == "" {
			return errors.New("enableOperatorWebhook or enableInjector is set, but this operator serves no webhooks: set -webhook-bind-address")
		}
		if err := r.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: deploy.WebhookSecret}, &secret); client.IgnoreNotFound(err) != nil {
			return err
		}
		if len(secret.Data[certs.CACert]) == 0 {
			return errNoCertificate // the event of it wakes us
		}
	}
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Namespace", Name: ns.Name, UID: ns.UID}
	wanted, unwanted := deploy.Webhooks(spec, webhookClient(&r.Operator, secret.Data[certs.CACert]), owner)
	var errs []error
	for _, obj := range unwanted {
		errs = append(errs, r.unhook(ctx, obj))
	}
	for _, obj := range wanted {
		errs = append(errs, r.hook(ctx, obj))
	}
	return errors.Join(errs...)
}

// hook applies a webhook configuration. One of another operator whose Service is in our
// namespace is replaced, because that operator is gone. One with a Service elsewhere is an error,
// and stays as it is.
func (r *reconciler) hook(ctx context.Context, obj client.Object) error {
	have, err := r.findAnywhere(ctx, obj)
	if err != nil {
		return err
	}
	if have != nil && !apiclient.Applied(have) && !r.leftBehind(have) {
		return fmt.Errorf("%s %s leads to another service than %s/%s: delete it, or do not enable this one",
			obj.GetObjectKind().GroupVersionKind().Kind, obj.GetName(), r.Namespace, deploy.WebhookService)
	}
	return r.apply(ctx, have, obj)
}

// unhook deletes a webhook configuration, if it is ours or was left in our namespace.
// The cache has ours. The other kind is looked for once: who made it is gone.
func (r *reconciler) unhook(ctx context.Context, obj client.Object) error {
	have, err := r.find(ctx, r, obj)
	if key := fmt.Sprintf("%T %s", obj, obj.GetName()); err == nil && have == nil && !r.swept[key] {
		if have, err = r.find(ctx, r.Live, obj); err == nil {
			r.swept[key] = true
		}
	}
	if err != nil || have == nil || !apiclient.Applied(have) && !r.leftBehind(have) {
		return err
	}
	if err := r.Delete(ctx, have); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete webhook configuration %s: %w", have.GetName(), err)
	}
	return nil
}

// leftBehind reports whether a webhook configuration leads to this operator's namespace.
func (r *reconciler) leftBehind(obj client.Object) bool {
	leads := func(c admissionv1.WebhookClientConfig) bool {
		return c.Service != nil && c.Service.Namespace == r.Namespace
	}
	switch o := obj.(type) {
	case *admissionv1.MutatingWebhookConfiguration:
		return len(o.Webhooks) > 0 && leads(o.Webhooks[0].ClientConfig)
	case *admissionv1.ValidatingWebhookConfiguration:
		return len(o.Webhooks) > 0 && leads(o.Webhooks[0].ClientConfig)
	}
	return false
}
