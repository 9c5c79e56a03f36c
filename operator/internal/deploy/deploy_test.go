// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"testing"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

func TestIgnoredFields(t *testing.T) {
	require.Empty(t, Ignored(&v1.SriovOperatorConfigSpec{
		EnableInjector: true, EnableOperatorWebhook: true, UseCDI: true,
		FeatureGates: map[string]bool{GateMetrics: true, GateInjectorMatch: true, GateDRA: true, "blockDevicePluginUntilConfigured": true, "mellanoxFirmwareReset": false},
	}))
	require.Equal(t, []string{"disablePlugins: there are no vendor plugins", "featureGates: unheardOf"}, Ignored(&v1.SriovOperatorConfigSpec{
		DisablePlugins: []string{"mellanox"}, FeatureGates: map[string]bool{"unheardOf": true},
	}))
}

func TestWebhookAddresses(t *testing.T) {
	c := WebhookClient{Namespace: "ns"}
	require.Equal(t, []string{WebhookService + ".ns.svc"}, c.Hosts())
	require.Equal(t, "ns", c.to("/x").Service.Namespace)
	for url, host := range map[string]string{"https://10.0.0.1:9443": "10.0.0.1", "https://[fd00::1]:9443/": "fd00::1", "https://a.example/base": "a.example"} {
		require.NoError(t, CheckWebhookURL(url))
		c.URL = url
		require.Equal(t, []string{WebhookService + ".ns.svc", host}, c.Hosts())
	}
	c.URL = "https://a.example/base/"
	require.Equal(t, "https://a.example/base/x", *c.to("/x").URL)
	for _, url := range []string{"http://a", "a:9443", "https://", "https://u@a", "https://a?b=c", "https://a#b", "https://a b"} {
		require.ErrorContains(t, CheckWebhookURL(url), "want https://host:port", url)
	}
}

// A webhook that stands in the way of its own repair would have to be deleted by hand.
func TestInjectorKeepsOutOfTheWay(t *testing.T) {
	s := &v1.SriovOperatorConfigSpec{EnableInjector: true, FeatureGates: map[string]bool{GateInjectorMatch: true}}
	wanted, unwanted := Webhooks(s, WebhookClient{Namespace: "ns"}, metav1.OwnerReference{})
	require.Len(t, wanted, 1)
	require.Len(t, unwanted, 2)
	w := wanted[0].(*admissionv1.MutatingWebhookConfiguration).Webhooks[0]
	require.Equal(t, admissionv1.Fail, *w.FailurePolicy)
	require.Len(t, w.MatchConditions, 1)
	require.Equal(t, []string{"ns", "kube-system"}, w.NamespaceSelector.MatchExpressions[0].Values)
	require.Equal(t, []admissionv1.OperationType{admissionv1.Create}, w.Rules[0].Operations)

	s.FeatureGates = nil
	wanted, _ = Webhooks(s, WebhookClient{Namespace: "ns"}, metav1.OwnerReference{})
	w = wanted[0].(*admissionv1.MutatingWebhookConfiguration).Webhooks[0]
	require.Equal(t, admissionv1.Ignore, *w.FailurePolicy)
	require.Empty(t, w.MatchConditions)
}
