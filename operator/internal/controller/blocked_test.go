// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

func (c *cluster) drained(t require.TestingT, node string) metav1.Condition {
	return condition(t, c.state(t, node).Status.Conditions, v1.ConditionDrained)
}

// open waits until a node is as it was before its drain.
func (c *cluster) open(t *testing.T, node string) {
	t.Helper()
	c.eventually(t, func(t *assert.CollectT) {
		require.Equal(t, v1.DrainIdle, c.current(t, node))
		require.False(t, c.cordoned(t, node))
	})
}

// budget makes a PodDisruptionBudget for a pod that no controller has looked at yet: the
// API server answers evictions with 429 and "Retry-After: 10".
func (c *cluster) budget(t *testing.T, name string, p *corev1.Pod) {
	t.Helper()
	pdb := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: name}}
	pdb.Spec = policyv1.PodDisruptionBudgetSpec{MinAvailable: new(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: p.Labels}}
	c.create(t, pdb)
}

// Whatever is answered for one pod, the others leave, and the condition names the one and
// the answer.
func TestEveryPodIsTried(t *testing.T) {
	c := newCluster(t)
	require.NoError(t, func() error {
		_, err := c.plane.Kubectl(ctx, strings.NewReader(refuseEvictions), "apply", "-f", "-")
		return err
	}())
	t.Cleanup(func() {
		_, err := c.plane.Kubectl(ctx, strings.NewReader(refuseEvictions), "delete", "-f", "-")
		require.NoError(t, err)
	})
	for name, tc := range map[string]struct {
		block func(t *testing.T, p *corev1.Pod)
		says  string
	}{
		"two budgets, answered 500": {func(t *testing.T, p *corev1.Pod) {
			c.budget(t, p.Name+"-1", p)
			c.budget(t, p.Name+"-2", p)
		}, "more than one PodDisruptionBudget"},
		"a new budget, answered 429": {func(t *testing.T, p *corev1.Pod) { c.budget(t, p.Name, p) }, "disruption budget"},
		"a policy, answered 403":     {func(*testing.T, *corev1.Pod) {}, "no, says the policy"},
		"a policy, answered 422":     {func(*testing.T, *corev1.Pod) {}, "no, says the policy"},
		"held by a finalizer": {func(t *testing.T, p *corev1.Pod) {
			c.edit(t, p, func() { p.Finalizers = []string{"example.com/hold"} })
			t.Cleanup(func() { c.edit(t, p, func() { p.Finalizers = nil }) })
		}, "is ending, held by the finalizers example.com/hold"},
	} {
		t.Run(name, func(t *testing.T) {
			node := "tried-" + strings.NewReplacer(" ", "-", ",", "").Replace(name)
			c.node(t, node, nil)
			// First and last in the API server's list.
			stuck, first, last := c.pod(t, node+"-m", node, true), c.pod(t, node+"-a", node, true), c.pod(t, node+"-z", node, true)
			tc.block(t, stuck)
			if strings.Contains(name, "policy") {
				c.eventually(t, func(t *assert.CollectT) { // until it is in force
					require.ErrorContains(t, c.SubResource("eviction").Create(ctx, stuck, &policyv1.Eviction{DeleteOptions: &metav1.DeleteOptions{DryRun: []string{"All"}}}), "says the policy")
				})
			}
			c.ask(t, node, v1.DrainRequired)
			c.eventually(t, func(t *assert.CollectT) {
				require.False(t, c.there(first))
				require.False(t, c.there(last))
				message := c.drained(t, node).Message
				require.Contains(t, message, "1 pods to go: pod default/"+stuck.Name)
				require.Contains(t, message, tc.says)
			})
			require.Equal(t, v1.Draining, c.current(t, node))
			require.True(t, c.there(stuck))
			c.ask(t, node, v1.DrainIdle)
			c.open(t, node)
		})
	}
}

const refuseEvictions = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: refuse-evictions}
spec:
  matchConstraints:
    resourceRules:
      - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods/eviction]}
  validations:
    - {expression: "!object.metadata.name.endsWith('403-m')", message: "no, says the policy", reason: Forbidden}
    - {expression: "!object.metadata.name.endsWith('422-m')", message: "no, says the policy", reason: Invalid}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: refuse-evictions}
spec: {policyName: refuse-evictions, validationActions: [Deny]}
`

// An answer "too many requests, again in ten seconds" is not repeated behind the back of
// the drain: the condition is there at once, a node that is deleted meanwhile gives its
// slot back, and forty such nodes keep no other waiting.
func TestBlockedNodesHoldUpNobody(t *testing.T) {
	c := newCluster(t)
	pool := &v1.SriovNetworkPoolConfig{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "blocked"}}
	pool.Spec.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "blocked"}}
	c.create(t, pool)
	for i := range 40 {
		name := "blocked-" + strconv.Itoa(i)
		c.node(t, name, map[string]string{"pool": "blocked"})
		c.budget(t, name, c.pod(t, name, name, true))
		c.ask(t, name, v1.DrainRequired)
	}
	c.node(t, "blocked-not", map[string]string{"pool": "blocked"})
	begun := time.Now()
	c.ask(t, "blocked-not", v1.DrainRequired)
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, v1.DrainComplete, c.current(t, "blocked-not")) })
	t.Log("the free node took", time.Since(begun))
	c.eventually(t, func(t *assert.CollectT) {
		for i := range 40 {
			require.Equal(t, v1.ReasonDrainBlocked, c.drained(t, "blocked-"+strconv.Itoa(i)).Reason)
		}
	})

	t.Log("in no pool one node is drained at a time: a deleted one gives its turn to the next")
	c.node(t, "turn-a", nil)
	c.budget(t, "turn-a", c.pod(t, "turn-a", "turn-a", true))
	c.ask(t, "turn-a", v1.DrainRequired)
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, v1.ReasonDrainBlocked, c.drained(t, "turn-a").Reason) })
	c.node(t, "turn-b", nil)
	c.ask(t, "turn-b", v1.DrainRequired)
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, v1.ReasonDrainQueued, c.drained(t, "turn-b").Reason) })
	require.NoError(t, c.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "turn-a"}}))
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, v1.DrainComplete, c.current(t, "turn-b")) })
}

// A permission is taken back before the node is open again, as the versions of the two
// objects show; and one that was given for an earlier wish does not count for a new one.
func TestOldPermissionAnswersNoNewWish(t *testing.T) {
	c := newCluster(t)
	c.node(t, "wish", nil)
	wish := func(desired, number string) {
		s := &v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "wish"}}
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q,%q:%q}}}`, v1.AnnotationDesiredState, desired, v1.AnnotationDrainRequest, number)
		require.NoError(t, c.Patch(ctx, s, client.RawPatch("application/merge-patch+json", []byte(patch))))
	}
	watcher, err := client.NewWithWatch(c.config, client.Options{Scheme: c.scheme})
	require.NoError(t, err)
	states, err := watcher.Watch(ctx, &v1.SriovNetworkNodeStateList{}, client.InNamespace(ns), client.MatchingFields{"metadata.name": "wish"})
	require.NoError(t, err)
	defer states.Stop()
	nodes, err := watcher.Watch(ctx, &corev1.NodeList{}, client.MatchingFields{"metadata.name": "wish"})
	require.NoError(t, err)
	defer nodes.Stop()

	wish(v1.DrainRequired, "1")
	c.eventually(t, func(t *assert.CollectT) {
		a := c.state(t, "wish").Annotations
		require.Equal(t, v1.DrainComplete, a[v1.AnnotationCurrentState])
		require.Equal(t, "1", a[v1.AnnotationDrainAnswer])
	})
	require.True(t, c.cordoned(t, "wish"))

	t.Log("a new wish at once: the node is looked over again, and stays closed")
	late := c.pod(t, "wish-late", "wish", true)
	wish(v1.DrainRequired, "2")
	c.eventually(t, func(t *assert.CollectT) {
		a := c.state(t, "wish").Annotations
		require.Equal(t, v1.DrainComplete, a[v1.AnnotationCurrentState])
		require.Equal(t, "2", a[v1.AnnotationDrainAnswer])
	})
	require.False(t, c.there(late))
	wish(v1.DrainIdle, "2")
	c.open(t, "wish")

	version := func(obj client.Object) int {
		n, err := strconv.Atoi(obj.GetResourceVersion())
		require.NoError(t, err)
		return n
	}
	idle, opened, closed := 0, 0, 0
	for closed == 0 || opened == 0 {
		n := (<-nodes.ResultChan()).Object.(*corev1.Node)
		switch {
		case n.Spec.Unschedulable && closed == 0:
			closed = version(n)
		case !n.Spec.Unschedulable && closed > 0:
			opened = version(n)
		}
	}
	for idle == 0 {
		s := (<-states.ResultChan()).Object.(*v1.SriovNetworkNodeState)
		if s.Annotations[v1.AnnotationCurrentState] == v1.DrainIdle && version(s) > closed {
			idle = version(s)
		}
	}
	require.Less(t, idle, opened, "Idle was written before the node was opened")
}

// Nothing that happens to the objects of a drain leaves the node cordoned.
func TestNoCordonIsLeftBehind(t *testing.T) {
	c := newCluster(t)
	drain := func(node string, state string) {
		c.node(t, node, map[string]string{"takes-part": "yes"})
		if state == v1.Draining {
			c.budget(t, node, c.pod(t, node, node, true))
		}
		c.ask(t, node, v1.DrainRequired)
		c.eventually(t, func(t *assert.CollectT) {
			require.Equal(t, state, c.current(t, node))
			require.True(t, c.cordoned(t, node))
		})
	}
	for _, state := range []string{v1.Draining, v1.DrainComplete} {
		t.Run("state deleted at "+state, func(t *testing.T) {
			node := "left-deleted-" + strings.ToLower(state)
			drain(node, state)
			require.NoError(t, c.Delete(ctx, &v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: node}}))
			c.eventually(t, func(t *assert.CollectT) { require.False(t, c.cordoned(t, node)) })
		})
		t.Run("node deselected at "+state, func(t *testing.T) {
			node := "left-deselected-" + strings.ToLower(state)
			drain(node, state)
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}
			c.edit(t, n, func() { n.Labels["kubernetes.io/os"] = "plan9" })
			c.open(t, node)
		})
	}
}

// What a drain does not evict, though it holds VFs, is named.
func TestPodsOfDaemonSetsAreNamed(t *testing.T) {
	c := newCluster(t)
	c.node(t, "named", nil)
	c.pod(t, "named-ds", "named", true, func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "probe", UID: "u", Controller: new(true)}}
	})
	c.ask(t, "named", v1.DrainRequired)
	c.eventually(t, func(t *assert.CollectT) {
		require.Equal(t, v1.DrainComplete, c.current(t, "named"))
		require.Equal(t, "pod default/named-ds holds VFs: DaemonSet probe would put it back at once", c.drained(t, "named").Message)
	})
	c.ask(t, "named", v1.DrainIdle)
	c.open(t, "named")
}

// A pod that holds a VF through a claim leaves; one whose claim holds another device, or
// looks at the VF as an administrator, does not.
func TestDrainEvictsPodsWithClaims(t *testing.T) {
	c := newCluster(t)
	c.node(t, "claims", nil)
	claim := func(name, driver, pool, device string, admin bool) *corev1.Pod {
		rc := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
		request := resourcev1.DeviceRequest{Name: "vf", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "x"}}
		rc.Spec.Devices.Requests = []resourcev1.DeviceRequest{request}
		c.create(t, rc)
		result := resourcev1.DeviceRequestAllocationResult{Request: "vf", Driver: driver, Pool: pool, Device: device}
		if admin {
			result.AdminAccess = new(true)
		}
		rc.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{result}}}
		require.NoError(t, c.Status().Update(ctx, rc))
		t.Cleanup(func() {
			require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(rc), rc))
			rc.Status.Allocation = nil
			require.NoError(t, c.Status().Update(ctx, rc))
		})
		return c.pod(t, name, "claims", false, func(p *corev1.Pod) {
			p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "vf", ResourceClaimName: &rc.Name}}
		})
	}
	const ours = "sriovnetwork.k8snetworkplumbingwg.io"
	disturbed := claim("claim-disturbed", ours, "claims", "0000-01-10-0", false)
	quiet := claim("claim-quiet", ours, "claims", "0000-01-10-2", false)
	foreign := claim("claim-foreign", "gpu.example.com", "claims", "0000-01-10-0", false)
	elsewhere := claim("claim-elsewhere", ours, "other-node", "0000-01-10-0", false)

	s := &v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "claims"}}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q,%q:"0000:01:10.0,0000:01:10.4"}}}`, v1.AnnotationDesiredState, v1.DrainRequired, v1.AnnotationDrainVFs)
	require.NoError(t, c.Patch(ctx, s, client.RawPatch("application/merge-patch+json", []byte(patch))))
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, v1.DrainComplete, c.current(t, "claims")) })
	require.False(t, c.there(disturbed))
	for _, p := range []*corev1.Pod{quiet, foreign, elsewhere} {
		require.True(t, c.there(p), p.Name)
	}
	patch = fmt.Sprintf(`{"metadata":{"annotations":{%q:%q,%q:null}}}`, v1.AnnotationDesiredState, v1.DrainIdle, v1.AnnotationDrainVFs)
	require.NoError(t, c.Patch(ctx, s, client.RawPatch("application/merge-patch+json", []byte(patch))))
	c.open(t, "claims")

	t.Log("a daemon that names no VFs: each may be disturbed")
	c.ask(t, "claims", v1.DrainRequired)
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, v1.DrainComplete, c.current(t, "claims")) })
	require.False(t, c.there(quiet))
	require.True(t, c.there(foreign))
	require.False(t, apierrors.IsNotFound(c.Get(ctx, client.ObjectKeyFromObject(elsewhere), elsewhere)))
	c.ask(t, "claims", v1.DrainIdle)
	c.open(t, "claims")
}
