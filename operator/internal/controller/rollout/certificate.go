// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/certs"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

// Certificate keeps the Secret with the certificate of the webhook server, and serves
// with what it contains. Every replica runs it, leader or not: all of them answer.
type Certificate struct {
	client.Client
	env.Operator
	Live client.Reader // not the cache: before something is deleted
	Now  func() time.Time

	current atomic.Pointer[tls.Certificate]
}

// Reconcile makes or renews the certificate if it is time, and takes up what is there.
// Of replicas that write at once the API server lets one succeed; the others are woken
// by what that one wrote.
func (r *Certificate) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	cfg, err := r.Config(ctx, r)
	if err != nil {
		return ctrl.Result{}, err
	}
	secret := &corev1.Secret{}
	secret.Namespace, secret.Name = r.Namespace, deploy.WebhookSecret
	err = r.Get(ctx, client.ObjectKeyFromObject(secret), secret)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	exists := err == nil
	if cfg == nil || !deploy.WantsWebhooks(&cfg.Spec) {
		return ctrl.Result{}, r.remove(ctx, secret)
	}
	data, next, err := certs.Renew(secret.Data, webhookClient(&r.Operator, nil).Hosts(), r.Now())
	if err != nil {
		return ctrl.Result{}, err
	}
	if !exists || !maps.EqualFunc(data, secret.Data, func(a, b []byte) bool { return string(a) == string(b) }) {
		secret.Data = data
		if err := r.write(ctx, cfg, secret, exists); apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
			return ctrl.Result{}, nil // the event of it comes
		} else if err != nil {
			return ctrl.Result{}, err
		}
		logf.FromContext(ctx).Info("webhook certificate renewed", "until", certs.Expires(data))
	}
	pair, err := tls.X509KeyPair(data[certs.Cert], data[certs.Key])
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("read the webhook certificate: %w", err)
	}
	r.current.Store(&pair)
	return ctrl.Result{RequeueAfter: next.Sub(r.Now())}, nil
}

// remove deletes the Secret, if there is one that was made here. The other replicas may know
// already that it is wanted again.
func (r *Certificate) remove(ctx context.Context, secret *corev1.Secret) error {
	if owner := metav1.GetControllerOf(secret); owner == nil || !ofConfig(owner) {
		return nil
	}
	cfg, err := r.Config(ctx, r.Live)
	if err != nil || cfg != nil && deploy.WantsWebhooks(&cfg.Spec) {
		return err // the event of it comes
	}
	if err := r.Delete(ctx, secret); !apierrors.IsConflict(err) {
		return client.IgnoreNotFound(err)
	}
	return nil // the event of another one comes
}

func (r *Certificate) write(ctx context.Context, cfg *v1.SriovOperatorConfig, secret *corev1.Secret, exists bool) error {
	if exists && metav1.GetControllerOf(secret) != nil {
		return r.Update(ctx, secret, apiclient.FieldOwner)
	}
	if err := controllerutil.SetControllerReference(cfg, secret, r.Scheme()); err != nil {
		return err
	}
	if exists { // a backup brought it
		return r.Update(ctx, secret, apiclient.FieldOwner)
	}
	secret.Type = corev1.SecretTypeTLS
	return r.Create(ctx, secret, apiclient.FieldOwner)
}

// GetCertificate is for the webhook server's handshakes. A certificate whose Secret is
// gone is served on: webhook configurations go a moment later.
func (r *Certificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := r.current.Load(); c != nil {
		return c, nil
	}
	return nil, errors.New("no certificate: no webhook is enabled, or its Secret is not there yet")
}

// WebhookServer listens at the operator's WebhookAddress and presents the certificate as it is
// then.
func WebhookServer(c *Certificate) (webhook.Server, error) {
	address := c.WebhookAddress
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("webhook address %q: want host:port: %w", address, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return nil, fmt.Errorf("webhook address %q: want a port from 1 to 65535", address)
	}
	return webhook.NewServer(webhook.Options{Host: host, Port: int(n), TLSOpts: []func(*tls.Config){func(t *tls.Config) {
		t.GetCertificate, t.MinVersion = c.GetCertificate, tls.VersionTLS13
		if c.TLS != nil {
			c.TLS(t)
		}
	}}}), nil
}
