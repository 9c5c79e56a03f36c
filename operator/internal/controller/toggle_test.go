// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

const (
	secretName  = "sriov-network-operator-webhook"
	metricsName = "sriov-network-metrics-exporter-service"
)

func (c *cluster) hook(t require.TestingT, name string) *admissionv1.MutatingWebhookConfiguration {
	h := &admissionv1.MutatingWebhookConfiguration{}
	require.NoError(t, c.Get(ctx, client.ObjectKey{Name: name}, h))
	return h
}

// deployed lists what the configuration's switches bring about, with the generations.
func (c *cluster) deployed(t require.TestingT) map[string]int64 {
	out := map[string]int64{}
	for name, obj := range map[string]client.Object{
		"mutating/" + policyHook:   &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: policyHook}},
		"validating/" + policyHook: &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: policyHook}},
		"mutating/" + podHook:      &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: podHook}},
		"secret":                   &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: secretName}},
		"service":                  &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: metricsName}},
		"daemon":                   &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "sriov-network-config-daemon"}},
		"plugin":                   &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "sriov-device-plugin"}},
	} {
		err := c.Get(ctx, client.ObjectKeyFromObject(obj), obj)
		if apierrors.IsNotFound(err) {
			continue
		}
		require.NoError(t, err)
		out[name] = obj.GetGeneration()
	}
	return out
}

// Each switch brings its own objects and takes them away again; those of the others do
// not even get a new generation.
func TestSwitches(t *testing.T) {
	c := newCluster(t)
	c.configure(t, func(*v1.SriovOperatorConfigSpec) {})
	var base map[string]int64
	c.eventually(t, func(t *assert.CollectT) {
		base = c.deployed(t)
		require.Equal(t, []string{"daemon", "plugin"}, slices.Sorted(maps.Keys(base)))
	})
	policyHooks := []string{"mutating/" + policyHook, "validating/" + policyHook}
	steps := []struct {
		what   string
		change func(*v1.SriovOperatorConfigSpec)
		have   []string // beside the DaemonSets
	}{
		{"webhook on", func(s *v1.SriovOperatorConfigSpec) { s.EnableOperatorWebhook = true }, append(policyHooks, "secret")},
		{"injector on", func(s *v1.SriovOperatorConfigSpec) { s.EnableInjector = true }, append(policyHooks, "secret", "mutating/"+podHook)},
		{"metrics on", func(s *v1.SriovOperatorConfigSpec) { s.FeatureGates = map[string]bool{"metricsExporter": true} }, append(policyHooks, "secret", "mutating/"+podHook, "service")},
		{"webhook off", func(s *v1.SriovOperatorConfigSpec) { s.EnableOperatorWebhook = false }, []string{"secret", "mutating/" + podHook, "service"}},
		{"metrics off", func(s *v1.SriovOperatorConfigSpec) { s.FeatureGates = nil }, []string{"secret", "mutating/" + podHook}},
		{"injector off", func(s *v1.SriovOperatorConfigSpec) { s.EnableInjector = false }, nil},
	}
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "default"}}
	before := base
	for _, s := range steps {
		t.Log(s.what)
		c.edit(t, cfg, func() { s.change(&cfg.Spec) })
		c.settled(t, cfg)
		want := slices.Sorted(slices.Values(append([]string{"daemon", "plugin"}, s.have...)))
		var now map[string]int64
		c.eventually(t, func(t *assert.CollectT) {
			now = c.deployed(t)
			require.Equal(t, want, slices.Sorted(maps.Keys(now)))
		})
		for name, generation := range before {
			metrics := name == "plugin" && (s.what == "metrics on" || s.what == "metrics off")
			if _, ok := now[name]; ok && !metrics {
				require.Equal(t, generation, now[name], name)
			}
		}
		before = now
		complete := condition(t, cfg.Status.Conditions, v1.ConditionComplete)
		require.Equal(t, metav1.ConditionTrue, complete.Status, complete.Message)
	}
	require.Equal(t, base["daemon"], before["daemon"])
}

func TestMetricsOfDevicePlugins(t *testing.T) {
	c := newCluster(t)
	t.Log("upstream's exporter holds the port: it goes; its Service becomes headless")
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "default"}}
	require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(cfg), cfg))
	owner := *metav1.NewControllerRef(cfg, v1.GroupVersion.WithKind("SriovOperatorConfig"))
	labels := map[string]string{"app": "sriov-network-metrics-exporter"}
	exporter := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "sriov-network-metrics-exporter", OwnerReferences: []metav1.OwnerReference{owner}}}
	exporter.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	exporter.Spec.Template.Labels = labels
	exporter.Spec.Template.Spec.Containers = []corev1.Container{{Name: "a", Image: "a"}}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: metricsName, OwnerReferences: []metav1.OwnerReference{owner}}}
	service.Spec.Ports = []corev1.ServicePort{{Port: 9110}}
	require.NoError(t, c.Create(ctx, exporter))
	require.NoError(t, c.Create(ctx, service))

	c.configure(t, func(s *v1.SriovOperatorConfigSpec) { s.FeatureGates = map[string]bool{"metricsExporter": true} })
	c.eventually(t, func(t *assert.CollectT) {
		require.True(t, apierrors.IsNotFound(c.Get(ctx, client.ObjectKeyFromObject(exporter), &appsv1.DaemonSet{})))
		var ds appsv1.DaemonSet
		require.NoError(t, c.Get(ctx, client.ObjectKey{Namespace: ns, Name: "sriov-device-plugin"}, &ds))
		plugin := ds.Spec.Template.Spec.Containers[0]
		require.Contains(t, plugin.Args, "--metrics-address=[$(HOST_IP)]:9110")
		require.Equal(t, int32(9110), plugin.Ports[0].ContainerPort)
		var s corev1.Service
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(service), &s))
		require.Equal(t, corev1.ClusterIPNone, s.Spec.ClusterIP)
		for name, value := range s.Spec.Selector {
			require.Equal(t, value, ds.Spec.Template.Labels[name])
		}
		require.NotEmpty(t, s.Spec.Selector)
		require.Equal(t, "sriov-network-metrics", s.Spec.Ports[0].Name)
		require.Equal(t, metricsName, s.Labels["name"], "what scrapers select by")
		require.Equal(t, "default", metav1.GetControllerOf(&s).Name)
	})
}

// What somebody changes or deletes by hand comes back.
func TestWebhookConfigurationIsKept(t *testing.T) {
	c := newCluster(t)
	c.configure(t, func(s *v1.SriovOperatorConfigSpec) { s.EnableInjector = true })
	h := c.hook(t, podHook)
	good := h.DeepCopy()
	c.edit(t, h, func() { h.Webhooks[0].FailurePolicy, h.Webhooks[0].ClientConfig.CABundle = new(admissionv1.Fail), nil })
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, good.Webhooks, c.hook(t, podHook).Webhooks) })
	require.NoError(t, c.Delete(ctx, good))
	c.eventually(t, func(t *assert.CollectT) {
		now := c.hook(t, podHook)
		require.NotEqual(t, good.UID, now.UID)
		require.Equal(t, good.Webhooks, now.Webhooks)
		require.Equal(t, "Namespace", now.OwnerReferences[0].Kind)
	})
}
