// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// pod adds a running pod; requests of our resource make it one that a drain evicts.
func (c *cluster) pod(t *testing.T, name, node string, sriov bool, mods ...func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": name}}}
	p.Spec = corev1.PodSpec{NodeName: node, TerminationGracePeriodSeconds: new(int64(0)), AutomountServiceAccountToken: new(false),
		Containers: []corev1.Container{{Name: "c", Image: "i"}}}
	if sriov {
		one := corev1.ResourceList{"openshift.io/nics": resource.MustParse("1")}
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: one, Limits: one}
	}
	for _, m := range mods {
		m(p)
	}
	c.create(t, p)
	old := p.DeepCopy()
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	require.NoError(t, c.Status().Patch(ctx, p, client.MergeFrom(old)))
	return p
}

func (c *cluster) current(t require.TestingT, node string) string {
	return c.state(t, node).Annotations[v1.AnnotationCurrentState]
}

func (c *cluster) cordoned(t require.TestingT, node string) bool {
	var n corev1.Node
	require.NoError(t, c.Get(ctx, client.ObjectKey{Name: node}, &n))
	return n.Spec.Unschedulable
}

func (c *cluster) there(p *corev1.Pod) bool {
	return !apierrors.IsNotFound(c.Get(ctx, client.ObjectKeyFromObject(p), &corev1.Pod{}))
}

func TestDrainEvictsPodsWithVFs(t *testing.T) {
	c := newCluster(t)
	c.node(t, "drain", nil)
	uses := c.pod(t, "drain-uses", "drain", true)
	early := c.pod(t, "drain-init", "drain", false, func(p *corev1.Pod) {
		one := corev1.ResourceList{"openshift.io/nics": resource.MustParse("1")}
		p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i", Resources: corev1.ResourceRequirements{Requests: one, Limits: one}}}
	})
	other := c.pod(t, "drain-other", "drain", false, func(p *corev1.Pod) {
		one := corev1.ResourceList{"openshift.io.example/nics": resource.MustParse("1")} // the prefix, not the domain
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: one, Limits: one}
	})
	daemon := c.pod(t, "drain-daemon", "drain", true, func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "d", UID: "u", Controller: new(true)}}
	})
	c.ask(t, "drain", v1.DrainRequired)
	c.eventually(t, func(t *assert.CollectT) {
		require.Equal(t, v1.DrainComplete, c.current(t, "drain"))
		require.Equal(t, v1.ReasonDrainComplete, condition(t, c.state(t, "drain").Status.Conditions, v1.ConditionDrained).Reason)
		var n corev1.Node
		require.NoError(t, c.Get(ctx, client.ObjectKey{Name: "drain"}, &n))
		require.Equal(t, v1.DrainRequired, n.Annotations[v1.AnnotationNodeState])
	})
	require.True(t, c.cordoned(t, "drain"))
	require.False(t, c.there(uses))
	require.False(t, c.there(early))
	require.True(t, c.there(other))
	require.True(t, c.there(daemon))

	c.ask(t, "drain", v1.DrainIdle)
	c.eventually(t, func(t *assert.CollectT) {
		require.Equal(t, v1.DrainIdle, c.current(t, "drain"))
		require.False(t, c.cordoned(t, "drain"))
	})
}

func TestRebootEvictsAll(t *testing.T) {
	c := newCluster(t)
	c.node(t, "reboot", nil)
	other := c.pod(t, "reboot-other", "reboot", false)
	c.ask(t, "reboot", v1.RebootRequired)
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, v1.DrainComplete, c.current(t, "reboot")) })
	require.False(t, c.there(other))
	c.ask(t, "reboot", v1.DrainIdle)
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, v1.DrainIdle, c.current(t, "reboot")) })
}

func TestAdminsCordonSurvives(t *testing.T) {
	c := newCluster(t)
	c.node(t, "admin", nil)
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "admin"}}
	require.NoError(t, c.Patch(ctx, n, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"unschedulable":true}}`))))
	c.ask(t, "admin", v1.DrainRequired)
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, v1.DrainComplete, c.current(t, "admin")) })
	c.ask(t, "admin", v1.DrainIdle)
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, v1.DrainIdle, c.current(t, "admin")) })
	require.True(t, c.cordoned(t, "admin"))
}

func TestDisruptionBudgetIsVisible(t *testing.T) {
	c := newCluster(t)
	c.node(t, "budget", nil)
	p := c.pod(t, "budget-pod", "budget", true)
	pdb := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "budget"}}
	pdb.Spec = policyv1.PodDisruptionBudgetSpec{MinAvailable: new(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: p.Labels}}
	c.create(t, pdb)
	pdb.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: pdb.Generation, CurrentHealthy: 1, DesiredHealthy: 1, ExpectedPods: 1}
	require.NoError(t, c.Status().Update(ctx, pdb))

	c.ask(t, "budget", v1.DrainRequired)
	c.eventually(t, func(t *assert.CollectT) {
		blocked := condition(t, c.state(t, "budget").Status.Conditions, v1.ConditionDrained)
		require.Equal(t, v1.ReasonDrainBlocked, blocked.Reason)
		require.Contains(t, blocked.Message, "pod default/budget-pod")
	})
	require.Equal(t, v1.Draining, c.current(t, "budget"))
	require.NoError(t, c.Delete(ctx, pdb))
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, v1.DrainComplete, c.current(t, "budget")) })
	c.ask(t, "budget", v1.DrainIdle)
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, v1.DrainIdle, c.current(t, "budget")) })
}

// Of five nodes, no more than two are taken at a time, and all get their turn.
func TestPoolLimit(t *testing.T) {
	c := newCluster(t)
	pool := &v1.SriovNetworkPoolConfig{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "two"}}
	pool.Spec = v1.SriovNetworkPoolConfigSpec{MaxUnavailable: new(intstr.FromInt32(2)), NodeSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "two"}}}
	c.create(t, pool)
	nodes := []string{"pool-a", "pool-b", "pool-c", "pool-d", "pool-e"}
	for _, n := range nodes {
		c.node(t, n, map[string]string{"pool": "two"})
	}
	for _, n := range nodes {
		c.ask(t, n, v1.DrainRequired)
	}
	waiting := slices.Clone(nodes)
	for len(waiting) > 0 {
		var done []string
		c.eventually(t, func(t *assert.CollectT) {
			done = nil
			for _, n := range waiting {
				if c.current(t, n) == v1.DrainComplete {
					done = append(done, n)
				}
			}
			require.Len(t, done, min(2, len(waiting)))
		})
		for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			busy := 0
			for _, n := range nodes {
				if c.current(t, n) != v1.DrainIdle {
					busy++
				}
			}
			require.LessOrEqual(t, busy, 2)
		}
		c.eventually(t, func(t *assert.CollectT) {
			for _, n := range waiting {
				if !slices.Contains(done, n) {
					require.Equal(t, v1.ReasonDrainQueued, condition(t, c.state(t, n).Status.Conditions, v1.ConditionDrained).Reason, n)
				}
			}
		})
		for _, n := range done {
			c.ask(t, n, v1.DrainIdle)
		}
		waiting = slices.DeleteFunc(waiting, func(n string) bool { return slices.Contains(done, n) })
	}
	c.eventually(t, func(t *assert.CollectT) {
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(pool), pool))
		require.Equal(t, 5, pool.Status.Nodes)
		require.Equal(t, v1.ReasonPoolReady, condition(t, pool.Status.Conditions, v1.ConditionReady).Reason)
	})
}

func TestMemberOfTwoPoolsIsNotDrained(t *testing.T) {
	c := newCluster(t)
	for _, name := range []string{"overlap-a", "overlap-b"} {
		p := &v1.SriovNetworkPoolConfig{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
		p.Spec.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"overlap": "yes"}}
		c.create(t, p)
	}
	c.node(t, "overlap", map[string]string{"overlap": "yes"})
	c.ask(t, "overlap", v1.DrainRequired)
	c.eventually(t, func(t *assert.CollectT) {
		require.Contains(t, condition(t, c.state(t, "overlap").Status.Conditions, v1.ConditionDrained).Message, "pools overlap-a and overlap-b")
		var p v1.SriovNetworkPoolConfig
		require.NoError(t, c.Get(ctx, client.ObjectKey{Namespace: ns, Name: "overlap-b"}, &p))
		require.Equal(t, v1.ReasonPoolOverlap, condition(t, p.Status.Conditions, v1.ConditionReady).Reason)
	})
	require.Equal(t, v1.DrainIdle, c.current(t, "overlap"))
}

func TestDisabledDrainEvictsNobody(t *testing.T) {
	c := newCluster(t)
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "default"}}
	c.edit(t, cfg, func() { cfg.Spec.DisableDrain = true })
	t.Cleanup(func() { c.edit(t, cfg, func() { cfg.Spec.DisableDrain = false }) })
	c.node(t, "disabled", nil)
	p := c.pod(t, "disabled-pod", "disabled", true)
	c.ask(t, "disabled", v1.DrainRequired)
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, v1.DrainComplete, c.current(t, "disabled")) })
	require.True(t, c.there(p))
	require.False(t, c.cordoned(t, "disabled"))
	c.ask(t, "disabled", v1.DrainIdle)
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, v1.DrainIdle, c.current(t, "disabled")) })
}
