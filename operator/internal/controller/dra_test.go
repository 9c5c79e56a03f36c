// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

const modeLabel = "sriovkit.io/resource-mode"

func draGate(s *v1.SriovOperatorConfigSpec) {
	s.FeatureGates = map[string]bool{"dynamicResourceAllocation": true}
}

func (c *cluster) mode(t require.TestingT, node string) string {
	var n corev1.Node
	require.NoError(t, c.Get(ctx, client.ObjectKey{Name: node}, &n))
	return n.Labels[modeLabel]
}

// dra is the condition of the configuration; nil if there is none.
func (c *cluster) dra(t require.TestingT) *metav1.Condition {
	var cfg v1.SriovOperatorConfig
	require.NoError(t, c.Get(ctx, client.ObjectKey{Namespace: ns, Name: "default"}, &cfg))
	return meta.FindStatusCondition(cfg.Status.Conditions, "DynamicResourceAllocation")
}

func (c *cluster) daemonSet(t require.TestingT, name string) *appsv1.DaemonSet {
	ds := &appsv1.DaemonSet{}
	err := c.Get(ctx, client.ObjectKey{Namespace: ns, Name: name}, ds)
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(t, err)
	return ds
}

// draOff waits until nothing of DRA is left.
func (c *cluster) draOff(t *testing.T) {
	t.Helper()
	c.eventually(t, func(t *assert.CollectT) {
		require.Nil(t, c.dra(t))
		require.Nil(t, c.daemonSet(t, "sriov-dra-driver"))
		plugin := c.daemonSet(t, "sriov-device-plugin")
		require.NotNil(t, plugin)
		require.Nil(t, plugin.Spec.Template.Spec.Affinity)
	})
}

func modePool(name, node, mode string) *v1.SriovNetworkPoolConfig {
	p := &v1.SriovNetworkPoolConfig{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
	p.Spec.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"test": node}}
	if mode != "" {
		p.Annotations = map[string]string{modeLabel: mode}
	}
	return p
}

// Without the gate and without a pool that asks for it nothing is made, written or taken
// away: not even a label that an admin has set for a driver that was installed by hand.
func TestNothingOfDRAUnlessAskedFor(t *testing.T) {
	c := newCluster(t)
	c.draOff(t)
	before := c.daemonSet(t, "sriov-device-plugin").Generation
	foreign := class("by-hand.example.com", "")
	c.create(t, foreign)
	c.node(t, "dra-none", map[string]string{modeLabel: "dra"})
	c.create(t, modePool("dra-none", "dra-none", "device-plugin"))
	c.create(t, policy("dra-none", "dra-none"))
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, "ens1 0-3=nics", groups(c.state(t, "dra-none"))) })
	c.configure(t, func(s *v1.SriovOperatorConfigSpec) {
		s.FeatureGates = map[string]bool{"dynamicResourceAllocation": false}
	})
	require.Equal(t, []string{foreign.Name}, c.classes(t))
	require.Equal(t, "dra", c.mode(t, "dra-none"))
	require.Nil(t, c.dra(t))
	require.Nil(t, c.daemonSet(t, "sriov-dra-driver"))
	require.Equal(t, before, c.daemonSet(t, "sriov-device-plugin").Generation)
	c.drop(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "dra-none"}})
}

// The gate makes DRA the mode of every node but those of a pool that says otherwise, and
// all of it goes when the gate is turned off.
func TestDRAByGate(t *testing.T) {
	c := newCluster(t)
	c.draOff(t)
	c.node(t, "dra-a", nil)
	c.node(t, "dra-b", nil)
	c.create(t, modePool("dra-b", "dra-b", "device-plugin"))
	c.create(t, policy("dra-a", "dra-a"))
	gate := t.Run("on", func(t *testing.T) {
		c.configure(t, draGate)
		c.eventually(t, func(t *assert.CollectT) {
			require.Equal(t, "dra", c.mode(t, "dra-a"))
			require.Empty(t, c.mode(t, "dra-b"))
			require.Equal(t, []string{"nics.openshift.io"}, c.classes(t))
			cond := c.dra(t)
			require.NotNil(t, cond)
			require.Equal(t, metav1.ConditionTrue, cond.Status, cond.Message)
			driver, plugin := c.daemonSet(t, "sriov-dra-driver"), c.daemonSet(t, "sriov-device-plugin")
			require.NotNil(t, driver)
			require.Equal(t, "sriovdp:test", driver.Spec.Template.Spec.Containers[0].Image)
			require.NotNil(t, plugin.Spec.Template.Spec.Affinity)
		})
		ours := class("nics.openshift.io", "")
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(ours), ours))
		require.Equal(t, "openshift.io/nics", *ours.Spec.ExtendedResourceName)
		require.Equal(t, "Namespace", ours.OwnerReferences[0].Kind)

		t.Log("a class goes with the last policy of its resource, and comes back if deleted or changed")
		second, third := policy("dra-2", "dra-b"), policy("dra-3", "dra-b")
		second.Spec.ResourceName, third.Spec.ResourceName = "dpdk", "dpdk"
		c.create(t, second)
		c.create(t, third)
		both := []string{"dpdk.openshift.io", "nics.openshift.io"}
		c.eventually(t, func(t *assert.CollectT) { require.Equal(t, both, c.classes(t)) })
		require.NoError(t, c.Delete(ctx, ours))
		c.eventually(t, func(t *assert.CollectT) { require.Equal(t, both, c.classes(t)) })
		c.edit(t, ours, func() { ours.Spec.ExtendedResourceName = nil })
		c.eventually(t, func(t *assert.CollectT) {
			require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(ours), ours))
			require.NotNil(t, ours.Spec.ExtendedResourceName)
		})
		c.drop(t, second)
		last := c.daemonSet(t, "sriov-dra-driver").Generation
		require.Equal(t, both, c.classes(t))
		c.drop(t, third)
		c.eventually(t, func(t *assert.CollectT) { require.Equal(t, both[1:], c.classes(t)) })
		require.Equal(t, last, c.daemonSet(t, "sriov-dra-driver").Generation)

		t.Log("the label is put back")
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "dra-a"}}
		c.edit(t, n, func() { delete(n.Labels, modeLabel) })
		c.eventually(t, func(t *assert.CollectT) { require.Equal(t, "dra", c.mode(t, "dra-a")) })
	})
	require.True(t, gate)
	c.draOff(t)
	require.Empty(t, c.classes(t))
	var n corev1.Node
	require.NoError(t, c.Get(ctx, client.ObjectKey{Name: "dra-a"}, &n))
	require.NotContains(t, n.Labels, modeLabel)
	require.NotContains(t, n.Annotations, v1.AnnotationModeSet)
}

// A pool takes its nodes to DRA and back, live; a value that means nothing, or pools that
// contradict each other, change nothing.
func TestDRAByPool(t *testing.T) {
	c := newCluster(t)
	c.draOff(t)
	c.node(t, "dra-p", nil)
	c.node(t, "dra-q", nil)
	p := modePool("dra-p", "dra-p", "dra")
	c.create(t, p)
	is := func(p, q string) {
		t.Helper()
		c.eventually(t, func(t *assert.CollectT) {
			require.Equal(t, p, c.mode(t, "dra-p"))
			require.Equal(t, q, c.mode(t, "dra-q"))
		})
	}
	is("dra", "")
	t.Log("a value that means nothing")
	other := modePool("dra-q", "dra-q", "dra")
	c.create(t, other)
	is("dra", "dra")
	c.edit(t, p, func() { p.Annotations[modeLabel] = "DRA" })
	c.eventually(t, func(t *assert.CollectT) {
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(p), p))
		ready := condition(t, p.Status.Conditions, v1.ConditionReady)
		require.Equal(t, v1.ReasonInvalid, ready.Reason)
		require.Contains(t, ready.Message, `annotation sriovkit.io/resource-mode "DRA": want dra or device-plugin`)
	})
	is("dra", "dra")
	t.Log("back")
	c.edit(t, p, func() { p.Annotations[modeLabel] = "device-plugin" })
	is("", "dra")
	c.eventually(t, func(t *assert.CollectT) {
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(p), p))
		require.Equal(t, v1.ReasonPoolReady, condition(t, p.Status.Conditions, v1.ConditionReady).Reason)
	})
	require.NotNil(t, c.daemonSet(t, "sriov-dra-driver"))
	t.Log("the last one that asks for it goes")
	c.drop(t, other)
	is("", "")
	c.draOff(t)
}

// While a node is still in mode dra its driver stays, whatever the gate says.
func TestDRADriverStaysForTheLastNode(t *testing.T) {
	c := newCluster(t)
	c.draOff(t)
	for _, n := range []string{"dra-stuck", "dra-free"} {
		c.node(t, n, nil)
	}
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "default"}}
	c.edit(t, cfg, func() { draGate(&cfg.Spec) })
	t.Cleanup(func() { c.draOff(t) })
	c.eventually(t, func(t *assert.CollectT) {
		require.Equal(t, "dra", c.mode(t, "dra-stuck"))
		require.Equal(t, "dra", c.mode(t, "dra-free"))
	})
	guard := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "stuck"}}
	guard.Spec.MatchConstraints = &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
		Operations: []admissionv1.OperationType{admissionv1.Update},
		Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"nodes"}},
	}}}}
	guard.Spec.Validations = []admissionv1.Validation{{Expression: `object.metadata.name != "dra-stuck" || "` + modeLabel + `" in object.metadata.labels`}}
	c.create(t, guard)
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "stuck"}}
	binding.Spec.PolicyName, binding.Spec.ValidationActions = "stuck", []admissionv1.ValidationAction{admissionv1.Deny}
	c.create(t, binding)
	stuck := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "dra-stuck"}}
	c.eventually(t, func(t *assert.CollectT) {
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"`+modeLabel+`":null}}}`))
		require.Error(t, c.Patch(ctx, stuck.DeepCopy(), patch, client.DryRunAll))
	})

	c.edit(t, cfg, func() { cfg.Spec.FeatureGates = nil })
	c.settled(t, cfg)
	c.eventually(t, func(t *assert.CollectT) { require.Empty(t, c.mode(t, "dra-free")) })
	// Events of the other node and of a policy wake the reconciler meanwhile.
	c.create(t, policy("dra-stuck", "dra-free"))
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, "ens1 0-3=nics", groups(c.state(t, "dra-free"))) })
	require.NotNil(t, c.dra(t))
	require.NotNil(t, c.daemonSet(t, "sriov-dra-driver"))
	require.NotNil(t, c.daemonSet(t, "sriov-device-plugin").Spec.Template.Spec.Affinity)
	c.drop(t, binding)
	c.draOff(t)
	require.Empty(t, c.mode(t, "dra-stuck"))
}
