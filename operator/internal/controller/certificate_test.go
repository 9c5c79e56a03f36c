// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	review "k8s.io/api/admission/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/certs"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
)

func (c *cluster) secret(t require.TestingT) *corev1.Secret {
	s := &corev1.Secret{}
	require.NoError(t, c.Get(ctx, client.ObjectKey{Namespace: ns, Name: secretName}, s))
	return s
}

// served is the certificate that a server presents to a client that trusts bundle.
func served(t require.TestingT, url string, bundle []byte) *x509.Certificate {
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(bundle))
	conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: roots}}).DialContext(context.Background(), "tcp", url[len("https://"):])
	require.NoError(t, err)
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
}

// A certificate that comes of age is replaced, and the API server trusts the next one:
// policies are refused before and after.
func TestCertificateRotation(t *testing.T) {
	c := newCluster(t)
	l := c.judged(t)
	url := c.hook(t, policyHook).Webhooks[0].ClientConfig.URL
	require.NotNil(t, url)
	base := (*url)[:len(*url)-len("/mutating-custom-resource")]
	hosts := []string{secretName + "." + ns + ".svc", "127.0.0.1"}
	for name, age := range map[string]time.Duration{"serving": 300 * 24 * time.Hour, "authority": 7 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			old, _, err := certs.Renew(nil, hosts, time.Now().Add(-age))
			require.NoError(t, err)
			s := c.secret(t)
			c.edit(t, s, func() { s.Data = old })
			c.eventually(t, func(t *assert.CollectT) {
				now := c.secret(t)
				require.NotEqual(t, string(old[certs.Cert]), string(now.Data[certs.Cert]))
				require.True(t, certs.Expires(now.Data).After(time.Now().Add(364*24*time.Hour)))
				bundle := c.hook(t, policyHook).Webhooks[0].ClientConfig.CABundle
				require.Equal(t, string(now.Data[certs.CACert]), string(bundle))
				require.Contains(t, string(bundle), string(old[certs.CACert]), "who trusted the old one still may")
				require.Equal(t, certs.Expires(now.Data), served(t, base, bundle).NotAfter)
				_, err := l.try(policy("probe", "nowhere", noVFs))
				require.True(t, apierrors.IsForbidden(err), "%v", err)
			})
		})
	}
}

// Two replicas race for a certificate: one makes it, both serve it, also the one that
// waits for the lease; and that one judges.
func TestEveryReplicaServes(t *testing.T) {
	c := newCluster(t)
	c.judged(t)
	address, err := freeAddress()
	require.NoError(t, err)
	second, err := c.operator(func(o *env.Operator) { o.WebhookAddress, o.CreateConfig = address, false })
	require.NoError(t, err)
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- second.Start(running) }()
	t.Cleanup(func() { stop(); require.NoError(t, <-done) })
	first := *c.hook(t, policyHook).Webhooks[0].ClientConfig.URL
	first = first[:len(first)-len("/mutating-custom-resource")]

	for range 5 {
		require.NoError(t, c.Delete(ctx, c.secret(t)))
		c.eventually(t, func(t *assert.CollectT) {
			data := c.secret(t).Data
			want := certs.Expires(data)
			for _, url := range []string{first, "https://" + address} {
				got := served(t, url, data[certs.CACert])
				require.Equal(t, want, got.NotAfter)
			}
			require.Equal(t, served(t, first, data[certs.CACert]).Raw, served(t, "https://"+address, data[certs.CACert]).Raw)
		})
	}
	select {
	case <-second.Elected():
		t.Fatal("the second replica is not to have the lease")
	default:
	}
	raw, err := json.Marshal(policy("p", "x", noVFs))
	require.NoError(t, err)
	body, err := json.Marshal(review.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &review.AdmissionRequest{
			UID: "u", Kind: metav1.GroupVersionKind(v1.GroupVersion.WithKind("SriovNetworkNodePolicy")), Namespace: ns, Name: "p",
			Operation: review.Create, Object: runtime.RawExtension{Raw: raw},
		},
	})
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(c.secret(t).Data[certs.CACert]))
	web := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer web.CloseIdleConnections()
	resp, err := web.Post("https://"+address+"/validating-custom-resource", "application/json", bytes.NewReader(body))
	require.NoError(t, err)
	defer resp.Body.Close()
	var answer review.AdmissionReview
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	require.False(t, answer.Response.Allowed)
	require.Contains(t, answer.Response.Result.Message, "numVfs is 0")
}

// Nobody but the operator's account needs to read its key, and the configurations
// that carry the bundle say who takes them along.
func TestWebhookOwners(t *testing.T) {
	c := newCluster(t)
	c.judged(t)
	require.Equal(t, corev1.SecretTypeTLS, c.secret(t).Type)
	require.Equal(t, "default", metav1.GetControllerOf(c.secret(t)).Name)
	var space corev1.Namespace
	require.NoError(t, c.Get(ctx, client.ObjectKey{Name: ns}, &space))
	var v admissionv1.ValidatingWebhookConfiguration
	require.NoError(t, c.Get(ctx, client.ObjectKey{Name: policyHook}, &v))
	for _, refs := range [][]metav1.OwnerReference{c.hook(t, policyHook).OwnerReferences, v.OwnerReferences} {
		require.Equal(t, []metav1.OwnerReference{{APIVersion: "v1", Kind: "Namespace", Name: ns, UID: space.UID}}, refs)
	}
}
