// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
)

func sriovNetwork(namespace, name string, mods ...func(*v1.SriovNetworkSpec)) *v1.SriovNetwork {
	n := &v1.SriovNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	n.Spec.ResourceName = "nics"
	for _, m := range mods {
		m(&n.Spec)
	}
	return n
}

func in(namespace string) func(*v1.SriovNetworkSpec) {
	return func(s *v1.SriovNetworkSpec) { s.NetworkNamespace = namespace }
}

func (c *cluster) namespace(t *testing.T, name string) {
	t.Helper()
	err := c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}) // stays: nothing here finalizes namespaces
	if !apierrors.IsAlreadyExists(err) {
		require.NoError(t, err)
	}
}

func (c *cluster) nad(t require.TestingT, namespace, name string) *nad.NetworkAttachmentDefinition {
	n := &nad.NetworkAttachmentDefinition{}
	require.NoError(t, c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, n))
	return n
}

func (c *cluster) noNAD(t require.TestingT, namespace, name string) {
	err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &nad.NetworkAttachmentDefinition{})
	require.True(t, apierrors.IsNotFound(err), "%s/%s: %v", namespace, name, err)
}

// ready waits for the network's condition Ready and returns it.
func (c *cluster) ready(t *testing.T, n *v1.SriovNetwork, reason string) metav1.Condition {
	t.Helper()
	var got metav1.Condition
	c.eventually(t, func(t *assert.CollectT) {
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(n), n))
		got = condition(t, n.Status.Conditions, v1.ConditionReady)
		require.Equal(t, n.Generation, got.ObservedGeneration)
		require.Equal(t, reason, got.Reason, got.Message)
	})
	return got
}

func TestNetworkLifecycle(t *testing.T) {
	c := newCluster(t)
	c.namespace(t, "net-a")
	c.namespace(t, "net-b")
	n := sriovNetwork(ns, "lifecycle", in("net-a"), func(s *v1.SriovNetworkSpec) { s.Vlan = 7; s.IPAM = `{"type":"static"}` })
	c.create(t, n)
	require.Equal(t, metav1.ConditionTrue, c.ready(t, n, v1.ReasonNetworkReady).Status)
	got := c.nad(t, "net-a", "lifecycle")
	require.JSONEq(t, `{"cniVersion":"1.0.0","name":"lifecycle","type":"sriov","vlan":7,"vlanQoS":0,"logLevel":"info","ipam":{"type":"static"}}`, got.Spec.Config)
	require.Equal(t, map[string]string{
		v1.AnnotationResourceName: "openshift.io/nics",
		v1.AnnotationOwnerRef:     "SriovNetwork.sriovnetwork.openshift.io/sriov-network-operator/lifecycle",
	}, got.Annotations)

	t.Log("edited and deleted by hand: restored")
	config := got.Spec.Config
	c.edit(t, got, func() {
		got.Spec.Config = "{}"
		got.Annotations["mine"] = "kept"
	})
	c.eventually(t, func(t *assert.CollectT) {
		got := c.nad(t, "net-a", "lifecycle")
		require.Equal(t, config, got.Spec.Config)
		require.Equal(t, "kept", got.Annotations["mine"])
	})
	require.NoError(t, c.Delete(ctx, got))
	c.eventually(t, func(t *assert.CollectT) { require.NotEqual(t, got.UID, c.nad(t, "net-a", "lifecycle").UID) })

	t.Log("moved: the old one goes")
	c.edit(t, n, func() { n.Spec.NetworkNamespace = "net-b" })
	c.eventually(t, func(t *assert.CollectT) {
		c.nad(t, "net-b", "lifecycle")
		c.noNAD(t, "net-a", "lifecycle")
	})
	t.Log("deleted without a finalizer: it goes too")
	require.Empty(t, n.Finalizers)
	c.drop(t, n)
	c.eventually(t, func(t *assert.CollectT) { c.noNAD(t, "net-b", "lifecycle") })
}

// edit changes an object as it is now, also when the operator writes to it meanwhile.
func (c *cluster) edit(t *testing.T, obj client.Object, change func()) {
	t.Helper()
	require.NoError(t, retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(obj), obj); err != nil {
			return err
		}
		change()
		return c.Update(ctx, obj)
	}))
}

func TestNetworkWaitsForItsNamespace(t *testing.T) {
	c := newCluster(t)
	later := "net-later-" + rand.String(5) // new each time: namespaces stay
	n := sriovNetwork(ns, "patient", in(later))
	c.create(t, n)
	require.Equal(t, metav1.ConditionFalse, c.ready(t, n, v1.ReasonNamespaceNotFound).Status)
	c.namespace(t, later)
	require.Equal(t, metav1.ConditionTrue, c.ready(t, n, v1.ReasonNetworkReady).Status)
	c.nad(t, later, "patient")
}

func TestNetworkRespectsOthers(t *testing.T) {
	c := newCluster(t)
	c.namespace(t, "net-app")

	t.Log("an application's network stays in its namespace")
	n := sriovNetwork("net-app", "tenant", in("kube-system"))
	c.create(t, n)
	require.Contains(t, c.ready(t, n, v1.ReasonNADInvalid).Message, "networkNamespace kube-system")
	c.noNAD(t, "kube-system", "tenant")
	c.edit(t, n, func() { n.Spec.NetworkNamespace = "" })
	c.ready(t, n, v1.ReasonNetworkReady)
	require.Equal(t, "tenant", metav1.GetControllerOf(c.nad(t, "net-app", "tenant")).Name)

	t.Log("a NAD of somebody else is not touched, also not on deletion")
	foreign := &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Namespace: "net-app", Name: "foreign"}, Spec: nad.Spec{Config: "{}"}}
	c.create(t, foreign)
	n = sriovNetwork(ns, "foreign", in("net-app"))
	c.create(t, n)
	require.Contains(t, c.ready(t, n, v1.ReasonNADInvalid).Message, "belongs to somebody else")
	require.Equal(t, foreign.ResourceVersion, c.nad(t, "net-app", "foreign").ResourceVersion)
	c.drop(t, n)
	require.Never(t, func() bool {
		return c.Get(ctx, client.ObjectKeyFromObject(foreign), &nad.NetworkAttachmentDefinition{}) != nil
	}, 500*time.Millisecond, 50*time.Millisecond)
}

func TestNetworkWithBadJSON(t *testing.T) {
	c := newCluster(t)
	n := sriovNetwork(ns, "bad-json", func(s *v1.SriovNetworkSpec) { s.IPAM = `{"type":` })
	c.create(t, n)
	require.Contains(t, c.ready(t, n, v1.ReasonNADInvalid).Message, "ipam: want a JSON object")
	c.noNAD(t, ns, "bad-json")
	c.edit(t, n, func() { n.Spec.IPAM = `{"type":"static"}` })
	c.ready(t, n, v1.ReasonNetworkReady)
	good := c.nad(t, ns, "bad-json").Spec.Config
	c.edit(t, n, func() { n.Spec.MetaPluginsConfig = `{"type":"tuning"}],"name":"evil","plugins":[{"type":"x"}` })
	c.ready(t, n, v1.ReasonNADInvalid)
	require.Equal(t, good, c.nad(t, ns, "bad-json").Spec.Config, "the good one stays in force")
}

// What another operator left: a finalizer goes. A NAD in another namespace stays, for
// nothing but a copy's annotation says whose it is.
func TestNetworkLeftBehindIsTakenOver(t *testing.T) {
	c := newCluster(t)
	c.namespace(t, "net-old")
	old := &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{
		Namespace: "net-old", Name: "inherited",
		Annotations: map[string]string{v1.AnnotationOwnerRef: "SriovNetwork.sriovnetwork.openshift.io/" + ns + "/inherited"},
	}, Spec: nad.Spec{Config: "{}"}}
	c.create(t, old)
	n := sriovNetwork(ns, "inherited")
	n.Finalizers = []string{v1.FinalizerNetwork}
	c.create(t, n)
	c.ready(t, n, v1.ReasonNetworkReady)
	c.eventually(t, func(t *assert.CollectT) {
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(n), n))
		require.Empty(t, n.Finalizers)
	})
	require.Equal(t, old.UID, c.nad(t, "net-old", "inherited").UID)
}

func TestOtherNetworkKinds(t *testing.T) {
	c := newCluster(t)
	ib := &v1.SriovIBNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "ib"}, Spec: v1.SriovIBNetworkSpec{ResourceName: "ib"}}
	ovs := &v1.OVSNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "ovs"}, Spec: v1.OVSNetworkSpec{ResourceName: "sw", Vlan: 4095}}
	c.create(t, ib)
	c.create(t, ovs)
	c.eventually(t, func(t *assert.CollectT) {
		require.JSONEq(t, `{"cniVersion":"1.0.0","name":"ib","type":"ib-sriov","ipam":{}}`, c.nad(t, ns, "ib").Spec.Config)
		require.JSONEq(t, `{"cniVersion":"1.0.0","name":"ovs","type":"ovs","vlan":4095,"ipam":{}}`, c.nad(t, ns, "ovs").Spec.Config)
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(ib), ib))
		require.Equal(t, v1.ReasonNetworkReady, condition(t, ib.Status.Conditions, v1.ConditionReady).Reason)
	})
}

// A backup brings back NetworkAttachmentDefinitions before the networks that they name, or
// those of another cluster: they stay, and are taken over when the networks come.
func TestRestoredNADsSurvive(t *testing.T) {
	c := newCluster(t)
	c.namespace(t, "net-restored")
	var restored []*nad.NetworkAttachmentDefinition
	for _, where := range []string{ns, "net-restored"} {
		old := &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{
			Namespace: where, Name: "restored-" + where,
			Annotations: map[string]string{v1.AnnotationOwnerRef: "SriovNetwork.sriovnetwork.openshift.io/" + ns + "/restored-" + where},
		}, Spec: nad.Spec{Config: `{"from":"the backup"}`}}
		c.create(t, old)
		restored = append(restored, old)
	}
	t.Log("a network that comes and goes afterwards shows that their events have been handled")
	later := sriovNetwork(ns, "restored-later", in("net-restored"))
	c.create(t, later)
	c.ready(t, later, v1.ReasonNetworkReady)
	c.drop(t, later)
	c.eventually(t, func(t *assert.CollectT) { c.noNAD(t, "net-restored", "restored-later") })
	for _, old := range restored {
		require.Equal(t, old.UID, c.nad(t, old.Namespace, old.Name).UID)
		n := sriovNetwork(ns, old.Name, in(old.Namespace))
		c.create(t, n)
		c.ready(t, n, v1.ReasonNetworkReady)
		now := c.nad(t, old.Namespace, old.Name)
		require.Equal(t, old.UID, now.UID, "not made anew")
		require.NotEmpty(t, now.OwnerReferences)
		c.drop(t, n)
		c.eventually(t, func(t *assert.CollectT) { c.noNAD(t, old.Namespace, old.Name) })
	}
}

// What admins say of a namespace decides which resources its networks may name.
func TestResourcesOfANamespace(t *testing.T) {
	c := newCluster(t)
	c.namespace(t, "net-limits")
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "net-limits"}}
	n := sriovNetwork("net-limits", "limited", func(s *v1.SriovNetworkSpec) { s.LogFile = "/etc/cron.d/x" })
	c.create(t, n)
	require.Contains(t, c.ready(t, n, v1.ReasonNetworkReady).Message, "logFile is left out")
	require.NotContains(t, c.nad(t, "net-limits", "limited").Spec.Config, "cron")
	c.edit(t, space, func() { space.Annotations = map[string]string{v1.AnnotationAllowedResources: "slow"} })
	require.Contains(t, c.ready(t, n, v1.ReasonResourceForbidden).Message, "resourceName nics")
	c.noNAD(t, "net-limits", "limited")
	c.edit(t, space, func() { space.Annotations[v1.AnnotationAllowedResources] = "slow,nics" })
	c.ready(t, n, v1.ReasonNetworkReady)
	c.nad(t, "net-limits", "limited")
	c.edit(t, n, func() { n.Spec.MetaPluginsConfig = `{"type":"tuning"}` })
	c.edit(t, space, func() { space.Annotations[v1.AnnotationAllowedPlugins] = "host-local" })
	require.Contains(t, c.ready(t, n, v1.ReasonPluginForbidden).Message, `metaPlugins: type "tuning"`)
	c.noNAD(t, "net-limits", "limited")
	c.edit(t, space, func() { space.Annotations[v1.AnnotationAllowedPlugins] = "host-local, tuning" })
	c.ready(t, n, v1.ReasonNetworkReady)
	c.edit(t, space, func() { space.Annotations = nil })
}

// A write that another admission refuses is told on the network, or on the node state.
func TestRefusedWriteIsACondition(t *testing.T) {
	c := newCluster(t)
	const refuse = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: refuse-nads}
spec:
  matchConstraints:
    resourceRules:
      - {apiGroups: [k8s.cni.cncf.io], apiVersions: [v1], operations: [CREATE], resources: [network-attachment-definitions]}
      - {apiGroups: [sriovnetwork.openshift.io], apiVersions: [v1], operations: [UPDATE], resources: [sriovnetworknodestates]}
  validations:
    - {expression: "object.metadata.name != 'refused' || object.kind == 'SriovNetworkNodeState' && !has(object.spec.interfaces)", message: "not this one"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: refuse-nads}
spec: {policyName: refuse-nads, validationActions: [Deny]}
`
	_, err := c.plane.Kubectl(ctx, strings.NewReader(refuse), "apply", "-f", "-")
	require.NoError(t, err)
	probe := &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "refused"}}
	c.eventually(t, func(t *assert.CollectT) { // until it is in force
		require.ErrorContains(t, c.Create(ctx, probe.DeepCopyObject().(client.Object), client.DryRunAll), "not this one")
	})
	n := sriovNetwork(ns, "refused")
	c.create(t, n)
	require.Contains(t, c.ready(t, n, v1.ReasonNADNotWritten).Message, "not this one")
	c.node(t, "refused", nil)
	c.create(t, policy("refused", "refused"))
	planned := func(reason, says string) {
		t.Helper()
		c.eventually(t, func(t *assert.CollectT) {
			got := condition(t, c.state(t, "refused").Status.Conditions, v1.ConditionPlanned)
			require.Equal(t, reason, got.Reason)
			require.Contains(t, got.Message, says)
		})
	}
	planned(v1.ReasonNotWritten, "not this one")
	_, err = c.plane.Kubectl(ctx, strings.NewReader(refuse), "delete", "-f", "-")
	require.NoError(t, err)
	c.ready(t, n, v1.ReasonNetworkReady)
	planned(v1.ReasonApplied, "")
	require.Len(t, c.state(t, "refused").Spec.Interfaces, 1)
}
