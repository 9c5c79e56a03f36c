// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

var ctx = context.Background()

func condition(t require.TestingT, conditions []metav1.Condition, kind string) metav1.Condition {
	c := meta.FindStatusCondition(conditions, kind)
	require.NotNil(t, c, "no condition %s", kind)
	return *c
}

func TestInstall(t *testing.T) {
	c := newCluster(t)
	c.node(t, "install", nil)
	c.eventually(t, func(t *assert.CollectT) {
		var cfg v1.SriovOperatorConfig
		require.NoError(t, c.Get(ctx, client.ObjectKey{Namespace: ns, Name: "default"}, &cfg))
		require.Equal(t, v1.ReasonConfigReady, condition(t, cfg.Status.Conditions, v1.ConditionReady).Reason)
		for _, name := range []string{"sriov-network-config-daemon", "sriov-device-plugin"} {
			var ds appsv1.DaemonSet
			require.NoError(t, c.Get(ctx, client.ObjectKey{Namespace: ns, Name: name}, &ds))
			require.Equal(t, "default", metav1.GetControllerOf(&ds).Name)
			require.Equal(t, map[string]string{"kubernetes.io/os": "linux"}, ds.Spec.Template.Spec.NodeSelector)
			require.Equal(t, name, ds.Labels["app"])
		}
	})
	s := c.state(t, "install")
	require.Equal(t, v1.DrainIdle, s.Annotations[v1.AnnotationDesiredState])
	require.Equal(t, v1.DrainIdle, s.Annotations[v1.AnnotationCurrentState])
	require.Equal(t, "default", metav1.GetControllerOf(s).Name)
}

func TestPolicyBecomesSpec(t *testing.T) {
	c := newCluster(t)
	c.node(t, "spec", nil)
	p := policy("spec", "spec")
	c.create(t, p)
	c.eventually(t, func(t *assert.CollectT) {
		s := c.state(t, "spec")
		require.Equal(t, "ens1 0-3=nics", groups(s))
		require.Equal(t, "true", s.Annotations[v1.AnnotationPlanned])
		var n corev1.Node
		require.NoError(t, c.Get(ctx, client.ObjectKey{Name: "spec"}, &n))
		require.Equal(t, v1.DevicePluginEnabled, n.Labels[v1.LabelDevicePlugin])
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(p), p))
		require.Equal(t, 1, p.Status.MatchedNodes)
		require.Equal(t, v1.ReasonApplying, condition(t, p.Status.Conditions, v1.ConditionReady).Reason)
	})
	var n corev1.Node
	require.NoError(t, c.Get(ctx, client.ObjectKey{Name: "spec"}, &n))
	require.NoError(t, c.Patch(ctx, &n, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"`+v1.LabelDevicePlugin+`":null}}}`))))
	c.eventually(t, func(t *assert.CollectT) {
		require.NoError(t, c.Get(ctx, client.ObjectKey{Name: "spec"}, &n))
		require.Equal(t, v1.DevicePluginEnabled, n.Labels[v1.LabelDevicePlugin], "put back if taken away")
	})
	c.report(t, "spec", v1.SyncSucceeded)
	c.eventually(t, func(t *assert.CollectT) {
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(p), p))
		require.Equal(t, metav1.ConditionTrue, condition(t, p.Status.Conditions, v1.ConditionReady).Status)
		require.Equal(t, 1, p.Status.ReadyNodes)
	})
	c.report(t, "spec", v1.SyncFailed)
	c.eventually(t, func(t *assert.CollectT) {
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(p), p))
		ready := condition(t, p.Status.Conditions, v1.ConditionReady)
		require.Equal(t, v1.ReasonNodeFailed, ready.Reason)
		require.Contains(t, ready.Message, "spec: VF 0 of 0000:01:00.0: no such device")
	})
	c.drop(t, p)
	c.eventually(t, func(t *assert.CollectT) {
		require.Empty(t, groups(c.state(t, "spec")))
		var n corev1.Node
		require.NoError(t, c.Get(ctx, client.ObjectKey{Name: "spec"}, &n))
		require.Equal(t, v1.DevicePluginDisabled, n.Labels[v1.LabelDevicePlugin])
	})
}

func TestJoiningAfterThePolicy(t *testing.T) {
	c := newCluster(t)
	c.create(t, policy("early", "late"))
	c.node(t, "late", nil)
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, "ens1 0-3=nics", groups(c.state(t, "late"))) })
}

func TestPolicyThatCannotBeHonouredHarmsNobodyElse(t *testing.T) {
	c := newCluster(t)
	c.node(t, "faulty", nil)
	bad := policy("bad", "faulty", func(s *v1.SriovNetworkNodePolicySpec) { s.NumVfs = 70 })
	nothing := policy("nothing", "faulty", func(s *v1.SriovNetworkNodePolicySpec) { s.NicSelector = v1.SriovNetworkNicSelector{} })
	nowhere := policy("nowhere", "no-such-node")
	good := policy("good", "faulty", func(s *v1.SriovNetworkNodePolicySpec) { s.NicSelector.PfNames = []string{"ens2"} })
	for _, p := range []*v1.SriovNetworkNodePolicy{bad, nothing, nowhere, good} {
		c.create(t, p)
	}
	c.eventually(t, func(t *assert.CollectT) {
		s := c.state(t, "faulty")
		require.Equal(t, "ens2 0-3=nics", groups(s))
		planned := condition(t, s.Status.Conditions, v1.ConditionPlanned)
		require.Equal(t, metav1.ConditionFalse, planned.Status)
		require.Contains(t, planned.Message, "policy bad: ens1 (0000:01:00.0): numVfs 70 exceeds the 7 VFs the device has")
		for p, reason := range map[*v1.SriovNetworkNodePolicy]string{bad: v1.ReasonInvalid, nothing: v1.ReasonNoMatch, nowhere: v1.ReasonNoMatch, good: v1.ReasonApplying} {
			require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(p), p))
			require.Equal(t, reason, condition(t, p.Status.Conditions, v1.ConditionReady).Reason, p.Name)
		}
	})
	c.drop(t, bad)
	c.eventually(t, func(t *assert.CollectT) {
		require.Equal(t, metav1.ConditionTrue, condition(t, c.state(t, "faulty").Status.Conditions, v1.ConditionPlanned).Status)
	})
}

func TestGoneNode(t *testing.T) {
	c := newCluster(t)
	c.node(t, "leaving", nil)
	c.create(t, policy("leaving", "leaving"))
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, "ens1 0-3=nics", groups(c.state(t, "leaving"))) })

	var n corev1.Node
	os := func(value string) {
		require.NoError(t, c.Get(ctx, client.ObjectKey{Name: "leaving"}, &n))
		old := n.DeepCopy()
		n.Labels["kubernetes.io/os"] = value
		require.NoError(t, c.Patch(ctx, &n, client.MergeFrom(old)))
	}
	os("windows")
	c.eventually(t, func(t *assert.CollectT) {
		s := c.state(t, "leaving")
		until, err := time.Parse(time.RFC3339, s.Annotations[v1.AnnotationKeepUntil])
		require.NoError(t, err)
		require.WithinDuration(t, time.Now().Add(30*time.Minute), until, time.Minute)
		require.Equal(t, "ens1 0-3=nics", groups(s), "kept as it was")
		require.NoError(t, c.Get(ctx, client.ObjectKey{Name: "leaving"}, &n))
		require.NotContains(t, n.Labels, v1.LabelDevicePlugin)
	})
	os("linux")
	c.eventually(t, func(t *assert.CollectT) {
		s := c.state(t, "leaving")
		require.NotContains(t, s.Annotations, v1.AnnotationKeepUntil)
		require.Equal(t, "ens1 0-3=nics", groups(s))
	})
}

// The state of a node that does not come back goes when its time is over, and not before.
func TestStateOfALostNodeExpires(t *testing.T) {
	c := newCluster(t)
	c.node(t, "lost", nil)
	require.NoError(t, c.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "lost"}}))
	c.eventually(t, func(t *assert.CollectT) {
		require.NotEmpty(t, c.state(t, "lost").Annotations[v1.AnnotationKeepUntil])
	})
	until := time.Now().Add(3 * time.Second).Truncate(time.Second)
	s := c.state(t, "lost")
	old := s.DeepCopy()
	s.Annotations[v1.AnnotationKeepUntil] = until.UTC().Format(time.RFC3339)
	require.NoError(t, c.Patch(ctx, s, client.MergeFrom(old)))
	c.eventually(t, func(t *assert.CollectT) {
		require.True(t, apierrors.IsNotFound(c.Get(ctx, client.ObjectKeyFromObject(s), &v1.SriovNetworkNodeState{})))
	})
	require.False(t, time.Now().Before(until), "not before its time")
}

// A node state that another operator left: a spec, no note that it was planned here.
func TestStateLeftBehindIsTakenOver(t *testing.T) {
	c := newCluster(t)
	s := &v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "inherited"}}
	s.Spec.Interfaces = []v1.Interface{{PciAddress: "0000:01:00.0", Name: "ens1", NumVfs: 4, VfGroups: []v1.VfGroup{
		{ResourceName: "nics", DeviceType: "netdevice", PolicyName: "inherited", VfRange: "0-3"},
	}}}
	c.create(t, s)
	c.create(t, policy("inherited", "inherited"))
	c.node(t, "inherited", nil)
	c.eventually(t, func(t *assert.CollectT) {
		now := c.state(t, "inherited")
		require.Equal(t, s.UID, now.UID, "not made anew")
		require.Equal(t, "true", now.Annotations[v1.AnnotationPlanned])
		require.Equal(t, v1.DrainIdle, now.Annotations[v1.AnnotationCurrentState])
		require.Len(t, now.Spec.Interfaces, 1)
		require.Equal(t, "8086", now.Spec.Interfaces[0].Vendor, "bound to the device from now on")
		now.Spec.Interfaces[0].Vendor, now.Spec.Interfaces[0].DeviceID = "", ""
		require.Equal(t, s.Spec, now.Spec)
	})
}

// One node's event is one node's work: the others are not written, not even touched.
func TestLabelFlipTouchesOneNode(t *testing.T) {
	c := newCluster(t)
	for _, n := range []string{"flip-a", "flip-b", "flip-c"} {
		c.node(t, n, map[string]string{"flip": "no"})
	}
	c.create(t, policy("flip", "", func(s *v1.SriovNetworkNodePolicySpec) { s.NodeSelector = map[string]string{"flip": "yes"} }))
	c.eventually(t, func(t *assert.CollectT) {
		for _, n := range []string{"flip-a", "flip-b", "flip-c"} {
			require.Equal(t, "true", c.state(t, n).Annotations[v1.AnnotationPlanned])
		}
	})
	before := map[string]string{}
	for _, n := range []string{"flip-b", "flip-c"} {
		before[n] = c.state(t, n).ResourceVersion
	}
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "flip-a"}}
	require.NoError(t, c.Patch(ctx, n, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"flip":"yes"}}}`))))
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, "ens1 0-3=nics", groups(c.state(t, "flip-a"))) })
	for n, version := range before {
		require.Equal(t, version, c.state(t, n).ResourceVersion, n)
	}
}
