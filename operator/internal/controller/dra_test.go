// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controlplane"
)

const modeLabel = "sriovkit.io/resource-mode"

func draGate(s *v1.SriovOperatorConfigSpec) {
	s.FeatureGates = map[string]bool{"dynamicResourceAllocation": true}
}

// classes lists the DeviceClasses of the cluster.
func (c *cluster) classes(t require.TestingT) []string {
	var list resourcev1.DeviceClassList
	require.NoError(t, c.List(ctx, &list))
	var out []string
	for i := range list.Items {
		out = append(out, list.Items[i].Name)
	}
	slices.Sort(out)
	return out
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

// class is somebody else's.
func class(name, resource string) *resourcev1.DeviceClass {
	c := &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if resource != "" {
		c.Spec.ExtendedResourceName = &resource
	}
	return c
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

// What somebody else made is left as it is, and said; so is a name that is too long.
func TestDRASaysWhatItLacks(t *testing.T) {
	c := newCluster(t)
	c.draOff(t)
	named, holder := class("nics.openshift.io", ""), class("mine", "openshift.io/dpdk")
	c.create(t, named)
	c.create(t, holder)
	long := strings.Repeat("n", 52) // 65 bytes with the prefix
	for name, resource := range map[string]string{"dra-x": "nics", "dra-y": "dpdk", "dra-z": long, "dra-w": long[1:]} {
		p := policy(name, "no-such-node")
		p.Spec.ResourceName = resource
		c.create(t, p)
	}
	c.configure(t, draGate)
	c.eventually(t, func(t *assert.CollectT) {
		cond := c.dra(t)
		require.NotNil(t, cond)
		require.Equal(t, v1.ReasonDRAIncomplete, cond.Reason)
		require.Contains(t, cond.Message, "openshift.io/nics: DeviceClass nics.openshift.io is somebody else's")
		require.Contains(t, cond.Message, "openshift.io/dpdk: DeviceClass mine is somebody else's")
		require.Contains(t, cond.Message, `policy dra-z: resourceName "`+long+`"`)
		require.NotContains(t, cond.Message, "dra-w")
		require.Equal(t, []string{"mine", "nics.openshift.io", long[1:] + ".openshift.io"}, c.classes(t))
	})
	uid := named.UID
	require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(named), named))
	require.Equal(t, uid, named.UID)
	require.Empty(t, named.Spec.Selectors)
	t.Log("theirs go, ours come")
	c.drop(t, named)
	c.drop(t, holder)
	c.eventually(t, func(t *assert.CollectT) {
		require.Equal(t, []string{"dpdk.openshift.io", "nics.openshift.io", long[1:] + ".openshift.io"}, c.classes(t))
	})
	t.Log("theirs comes later: ours stays, for claims name it")
	ours := class("dpdk.openshift.io", "")
	require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(ours), ours))
	c.create(t, class("later", "openshift.io/dpdk"))
	c.eventually(t, func(t *assert.CollectT) {
		require.Contains(t, c.dra(t).Message, "DeviceClass later is somebody else's")
	})
	now := class("dpdk.openshift.io", "")
	require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(now), now))
	require.Equal(t, ours.UID, now.UID)
}

// A name that is too long is refused where the policy is written, while the gate is on.
func TestDRANamesAreJudged(t *testing.T) {
	c := newCluster(t)
	l := c.judged(t)
	p := policy("dra-long", "nowhere")
	p.Spec.ResourceName = strings.Repeat("n", 52)
	_, err := l.try(p.DeepCopy())
	require.NoError(t, err)
	c.configure(t, draGate)
	c.eventually(t, func(t *assert.CollectT) {
		_, err := l.try(p.DeepCopy())
		require.ErrorContains(t, err, "has 65 bytes; dynamic resource allocation allows 64")
	})
	p.Spec.ResourceName = p.Spec.ResourceName[1:]
	_, err = l.try(p.DeepCopy())
	require.NoError(t, err)
	said, err := l.try(modePool("dra-said", "nowhere", "yes"))
	require.NoError(t, err)
	require.Contains(t, strings.Join(said, "\n"), `annotation sriovkit.io/resource-mode "yes"`)
}

// The token of one node writes the slices of that node alone, and nobody else's.
func TestDRADriverWritesOfItsOwnNode(t *testing.T) {
	c := newCluster(t)
	on := func(node string) client.Client {
		var extra map[string][]string
		if node != "" {
			extra = map[string][]string{"authentication.kubernetes.io/node-name": {node}}
		}
		cl, err := client.New(c.as("sriov-dra-driver", extra), client.Options{Scheme: c.scheme})
		require.NoError(t, err)
		return cl
	}
	slice := func(name, node, driver string) *resourcev1.ResourceSlice {
		s := &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: name}}
		s.Spec = resourcev1.ResourceSliceSpec{Driver: driver, NodeName: &node, Pool: resourcev1.ResourcePool{Name: node, ResourceSliceCount: 1}}
		return s
	}
	const ours = "sriovnetwork.k8snetworkplumbingwg.io"
	c.eventually(t, func(t *assert.CollectT) { // the policy was just applied
		require.ErrorContains(t, on("").Create(ctx, slice("none", "a", ours)), "the token names no node")
	})
	own := slice("own", "a", ours)
	require.NoError(t, on("a").Create(ctx, own))
	t.Cleanup(func() { c.drop(t, own) })
	require.ErrorContains(t, on("b").Create(ctx, slice("other", "a", ours)), "the token is of node b")
	require.ErrorContains(t, on("a").Create(ctx, slice("driver", "a", "other.example.com")), "another driver's")
	require.ErrorContains(t, on("b").Delete(ctx, own.DeepCopy()), "the token is of node b")
	require.NoError(t, on("a").Get(ctx, client.ObjectKeyFromObject(own), own))
	require.True(t, apierrors.IsForbidden(on("a").Create(ctx, class("x", ""))))

	t.Log("and the status of that node's devices")
	claim := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "dra-status"}}
	claim.Spec.Devices.Requests = []resourcev1.DeviceRequest{{Name: "vf", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "any"}}}
	c.create(t, claim)
	claim.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{
		{Request: "vf", Driver: ours, Pool: "a", Device: "0000-01-10-0"},
	}}, NodeSelector: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
		{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"a"}},
	}}}}}
	require.NoError(t, c.Status().Update(ctx, claim))
	status := claim.DeepCopy()
	status.Status.Devices = []resourcev1.AllocatedDeviceStatus{{Driver: ours, Pool: "a", Device: "0000-01-10-0"}}
	require.Error(t, on("b").Status().Update(ctx, status.DeepCopy()))
	require.NoError(t, on("a").Status().Update(ctx, status))
	status.Status.Devices = nil
	require.Error(t, on("b").Status().Update(ctx, status.DeepCopy()))
	freed := status.DeepCopy()
	freed.Status.Allocation = nil
	require.Error(t, on("a").Status().Update(ctx, freed), "allocation is the scheduler's")
	require.NoError(t, on("a").Status().Update(ctx, status))
	claim.ResourceVersion = status.ResourceVersion
	claim.Status = resourcev1.ResourceClaimStatus{}
	require.NoError(t, c.Status().Update(ctx, claim)) // its finalizer goes with the allocation
}

// API servers that cannot: nodes stay with the device plugin if there is no such API, and
// what an older one drops is said.
func TestDRAOfOlderAPIServers(t *testing.T) {
	controlplane.Need(t)
	t.Parallel() // a control plane of its own, and long waits for it
	program := buildOperator(t)
	for name, test := range map[string]struct {
		flags         []string
		mode          string
		reason, words string
	}{
		"not served":            {[]string{"--emulated-version=1.34", "--feature-gates=AllBeta=false,DynamicResourceAllocation=false", "--runtime-config=resource.k8s.io/v1=false"}, "", v1.ReasonDRANotServed, "does not serve resource.k8s.io/v1"},
		"no extended resources": {[]string{"--emulated-version=1.35"}, "dra", v1.ReasonDRAIncomplete, "drops extendedResourceName: on nodes in mode dra, pods get openshift.io/nics by claims only"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := startPlane(t.Context(), controlplane.Config{ServerFlags: test.flags})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, c.plane.Close()) })
			c.run(t, program, "CREATE_DEFAULT_CONFIG=true", "SRIOV_DEVICE_PLUGIN_IMAGE=sriovdp:test")
			c.node(t, "old", nil)
			c.create(t, policy("old", "old"))
			c.configure(t, draGate)
			c.eventually(t, func(t *assert.CollectT) {
				cond := c.dra(t)
				require.NotNil(t, cond)
				require.Equal(t, test.reason, cond.Reason, cond.Message)
				require.Contains(t, cond.Message, test.words)
				require.Equal(t, test.mode, c.mode(t, "old"))
				require.Equal(t, "ens1 0-3=nics", groups(c.state(t, "old")))
				require.Equal(t, test.mode != "", c.daemonSet(t, "sriov-dra-driver") != nil)
			})
		})
	}
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
