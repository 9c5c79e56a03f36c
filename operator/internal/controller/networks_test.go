package controller_test

import (
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

// What another operator left: a finalizer, and a NAD in a namespace since left.
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
		c.noNAD(t, "net-old", "inherited")
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(n), n))
		require.Empty(t, n.Finalizers)
	})
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
