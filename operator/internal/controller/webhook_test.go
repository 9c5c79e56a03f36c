// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

const (
	policyHook = "sriov-operator-webhook-config"
	podHook    = "network-resources-injector-config"
)

// configure changes the configuration for one test and waits until it is in force. What
// a test enables is off again before the next, which may write what would be refused.
func (c *cluster) configure(t *testing.T, change func(*v1.SriovOperatorConfigSpec)) {
	t.Helper()
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "default"}}
	c.settled(t, cfg)
	before := cfg.Spec.DeepCopy()
	c.edit(t, cfg, func() { change(&cfg.Spec) })
	t.Cleanup(func() {
		c.edit(t, cfg, func() { cfg.Spec = *before })
		c.settled(t, cfg)
	})
	c.settled(t, cfg)
}

// settled waits until the operator has done what the configuration says.
func (c *cluster) settled(t *testing.T, cfg *v1.SriovOperatorConfig) {
	t.Helper()
	c.eventually(t, func(t *assert.CollectT) {
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(cfg), cfg))
		ready := condition(t, cfg.Status.Conditions, v1.ConditionReady)
		require.Equal(t, cfg.Generation, ready.ObservedGeneration)
		require.Equal(t, v1.ReasonConfigReady, ready.Reason, ready.Message)
	})
}

// listener is a client that hears what the API server warns of.
type listener struct {
	client.Client
	mu    sync.Mutex
	heard []string
}

func (l *listener) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = append(l.heard, text)
}

// try writes an object without storing it, and returns what was said about it.
func (l *listener) try(obj client.Object) (warnings []string, err error) {
	l.mu.Lock()
	l.heard = nil
	l.mu.Unlock()
	err = l.Create(ctx, obj, client.DryRunAll)
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.heard), err
}

func (c *cluster) listener(t *testing.T) *listener {
	t.Helper()
	l := &listener{}
	cfg := rest.CopyConfig(c.config)
	cfg.WarningHandlerWithContext = l
	var err error
	l.Client, err = client.New(cfg, client.Options{Scheme: c.scheme})
	require.NoError(t, err)
	return l
}

// judged enables the webhook for policies and waits until the API server asks it.
func (c *cluster) judged(t *testing.T) *listener {
	t.Helper()
	c.configure(t, func(s *v1.SriovOperatorConfigSpec) { s.EnableOperatorWebhook = true })
	l := c.listener(t)
	c.eventually(t, func(t *assert.CollectT) {
		_, err := l.try(policy("probe", "nowhere", noVFs))
		require.Error(t, err)
	})
	return l
}

func noVFs(s *v1.SriovNetworkNodePolicySpec) { s.NumVfs = 0 }

func pool(name string, labels map[string]string, mods ...func(*v1.SriovNetworkPoolConfigSpec)) *v1.SriovNetworkPoolConfig {
	p := &v1.SriovNetworkPoolConfig{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
	p.Spec.NodeSelector = &metav1.LabelSelector{MatchLabels: labels}
	for _, m := range mods {
		m(&p.Spec)
	}
	return p
}

func TestRefusedAtOnce(t *testing.T) {
	c := newCluster(t)
	c.namespace(t, "hook-app")
	l := c.judged(t)
	elsewhere := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: "hook-app", Name: "default"}}
	for name, tc := range map[string]struct {
		obj  client.Object
		says string
	}{
		"policy without VFs": {policy("p", "x", noVFs), "numVfs is 0: want 1 or more"},
		"ipam":               {sriovNetwork(ns, "n", func(s *v1.SriovNetworkSpec) { s.IPAM = `{"type":` }), "ipam: want a JSON object"},
		"metaPlugins":        {sriovNetwork(ns, "n", func(s *v1.SriovNetworkSpec) { s.MetaPluginsConfig = `{"a":1}` }), `metaPlugins: entry 1: want an object with a "type"`},
		"network of tenant":  {sriovNetwork("hook-app", "n", in("kube-system")), "only networks in " + ns + " may be put elsewhere"},
		"IB network": {&v1.SriovIBNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "n"}, Spec: v1.SriovIBNetworkSpec{ResourceName: "r", Capabilities: "[]"}},
			"capabilities: want a JSON object"},
		"OVS network": {&v1.OVSNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "n"}, Spec: v1.OVSNetworkSpec{ResourceName: "r", IPAM: "1"}}, "ipam: want"},
		"pool": {pool("p", nil, func(s *v1.SriovNetworkPoolConfigSpec) {
			s.NodeSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}
		}), "nodeSelector: "},
		"configuration": {elsewhere, "the only configuration that is read is " + ns + "/default"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := l.try(tc.obj)
			require.True(t, apierrors.IsForbidden(err), "%v", err)
			require.ErrorContains(t, err, tc.says)
		})
	}
}

func TestWarnedOf(t *testing.T) {
	c := newCluster(t)
	c.namespace(t, "hook-app")
	c.node(t, "warned", map[string]string{"pool": "warned"})
	first := policy("warned-first", "warned", func(s *v1.SriovNetworkNodePolicySpec) { s.Priority = new(10) })
	c.create(t, first)
	c.create(t, pool("warned-first", map[string]string{"pool": "warned"}))
	l := c.judged(t)

	misplaced := policy("p", "warned")
	misplaced.Namespace = "hook-app"
	for name, tc := range map[string]struct {
		obj  client.Object
		says []string
	}{
		"fits":           {policy("p", "warned", func(s *v1.SriovNetworkNodePolicySpec) { s.NicSelector.PfNames = []string{"ens2"} }), nil},
		"no node yet":    {policy("p", "nowhere"), []string{"nodeSelector matches no node that takes part"}},
		"no PF yet":      {policy("p", "warned", func(s *v1.SriovNetworkNodePolicySpec) { s.NicSelector.PfNames = []string{"ens9"} }), []string{"node warned: nicSelector matches none"}},
		"too many VFs":   {policy("p", "warned", func(s *v1.SriovNetworkNodePolicySpec) { s.NumVfs = 70 }), []string{"numVfs 70 exceeds the 7 VFs"}},
		"overridden":     {policy("p", "warned"), []string{"VFs 0-3 overlap with 0-3 of policy warned-first, which has precedence"}},
		"not read there": {misplaced, []string{"only objects in the namespace " + ns + " are read"}},
		"network first":  {sriovNetwork(ns, "n", in("hook-later"), func(s *v1.SriovNetworkSpec) { s.ResourceName = "later" }), []string{"resourceName later: no SriovNetworkNodePolicy", "hook-later is not there yet"}},
		"network":        {sriovNetwork(ns, "n"), nil},
		"two pools":      {pool("p", map[string]string{"pool": "warned"}), []string{"node warned: also in pool warned-first: it is drained in neither"}},
		"empty pool":     {pool("p", map[string]string{"pool": "none"}), []string{"nodeSelector matches no node"}},
	} {
		t.Run(name, func(t *testing.T) {
			heard, err := l.try(tc.obj)
			require.NoError(t, err, "what may yet come is no reason to refuse")
			require.Len(t, heard, len(tc.says), "%q", heard)
			for i := range tc.says {
				require.Contains(t, heard[i], tc.says[i])
			}
		})
	}
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "default"}}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"spec": {"enableOvsOffload": true, "disableDrain": true}}`))
	require.NoError(t, l.Patch(ctx, cfg, patch, client.DryRunAll))
	require.Contains(t, strings.Join(l.heard, "\n"), "not acted on: enableOvsOffload\ndisableDrain: ")
}

// What was stored before the webhook was enabled can be labelled and deleted, not made worse.
func TestOlderObjectsAreNotInTheWay(t *testing.T) {
	c := newCluster(t)
	old := policy("hook-old", "nowhere", noVFs)
	c.create(t, old)
	l := c.judged(t)
	require.NoError(t, l.Patch(ctx, old, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"a":"b"}}}`))))
	require.True(t, apierrors.IsForbidden(l.Patch(ctx, old, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"mtu":9000}}`)))))
	require.NoError(t, l.Patch(ctx, old, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"numVfs":1}}`))))
}

func TestPolicyDefaults(t *testing.T) {
	c := newCluster(t)
	l := c.judged(t)
	p := policy("hook-default", "nowhere", func(s *v1.SriovNetworkNodePolicySpec) { s.LinkType = "ib" })
	_, err := l.try(p)
	require.NoError(t, err)
	require.Equal(t, 99, *p.Spec.Priority)
	require.True(t, p.Spec.IsRdma)
}

// Webhook configurations by others under the same names: a relic in the operator's
// namespace is replaced, one that leads elsewhere is not touched.
func TestWebhookConfigurationsOfOthers(t *testing.T) {
	c := newCluster(t)
	relic := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: policyHook, Annotations: map[string]string{"cert-manager.io/inject-ca-from": "x/y"}}}
	relic.Webhooks = []admissionv1.MutatingWebhook{hookTo(ns, "operator-webhook-service")}
	foreign := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: podHook}}
	foreign.Webhooks = []admissionv1.MutatingWebhook{hookTo("kube-system", "network-resources-injector-service")}
	c.create(t, relic)
	c.create(t, foreign)
	c.configure(t, func(s *v1.SriovOperatorConfigSpec) { s.EnableOperatorWebhook = true })
	var now admissionv1.MutatingWebhookConfiguration
	require.NoError(t, c.Get(ctx, client.ObjectKey{Name: policyHook}, &now))
	require.NotEqual(t, relic.UID, now.UID)
	require.NotContains(t, now.Annotations, "cert-manager.io/inject-ca-from")
	require.Equal(t, admissionv1.Ignore, *now.Webhooks[0].FailurePolicy)

	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "default"}}
	c.edit(t, cfg, func() { cfg.Spec.EnableInjector = true })
	c.eventually(t, func(t *assert.CollectT) {
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(cfg), cfg))
		ready := condition(t, cfg.Status.Conditions, v1.ConditionReady)
		require.Equal(t, v1.ReasonConfigSyncFailed, ready.Reason)
		require.Contains(t, ready.Message, podHook+" leads to another service")
	})
	require.NoError(t, c.Get(ctx, client.ObjectKey{Name: podHook}, &now))
	require.Equal(t, foreign.UID, now.UID)
	require.Equal(t, foreign.ResourceVersion, now.ResourceVersion)
}

// hookTo is a webhook that another tool made; it concerns an object that there is not.
func hookTo(namespace, service string) admissionv1.MutatingWebhook {
	return admissionv1.MutatingWebhook{
		Name: "operator-webhook.sriovnetwork.openshift.io", AdmissionReviewVersions: []string{"v1"}, SideEffects: new(admissionv1.SideEffectClassNone),
		FailurePolicy: new(admissionv1.Fail),
		ClientConfig:  admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: namespace, Name: service}},
		Rules: []admissionv1.RuleWithOperations{{
			Operations: []admissionv1.OperationType{admissionv1.Create},
			Rule:       admissionv1.Rule{APIGroups: []string{v1.GroupVersion.Group}, APIVersions: []string{"v1"}, Resources: []string{"nothing"}},
		}},
	}
}
