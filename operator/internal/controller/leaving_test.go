// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

const vfDriver = "sriovnetwork.k8snetworkplumbingwg.io"

// offering makes the slice of a driver on a node.
func (c *cluster) offering(t *testing.T, node, driver string, devices ...string) *resourcev1.ResourceSlice {
	s := &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: node + "-" + driver}}
	s.Spec = resourcev1.ResourceSliceSpec{Driver: driver, NodeName: &node, Pool: resourcev1.ResourcePool{Name: node, ResourceSliceCount: 1}}
	for _, d := range devices {
		s.Spec.Devices = append(s.Spec.Devices, resourcev1.Device{Name: d})
	}
	c.create(t, s)
	return s
}

// claimPod makes a pod on a node, and its claim with a device of the node.
func (c *cluster) claimPod(t *testing.T, node, name, driver, device string) (*corev1.Pod, *resourcev1.ResourceClaim) {
	claim := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	claim.Spec.Devices.Requests = []resourcev1.DeviceRequest{{Name: "vf", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "any"}}}
	c.create(t, claim)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{
		NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}, ResourceClaims: []corev1.PodResourceClaim{{Name: "nic", ResourceClaimName: &name}},
	}}
	c.create(t, p)
	c.allocate(t, claim, node, driver, device, p)
	return p, claim
}

func (c *cluster) allocate(t *testing.T, claim *resourcev1.ResourceClaim, node, driver, device string, to ...*corev1.Pod) {
	claim.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{
		{Request: "vf", Driver: driver, Pool: node, Device: device},
	}}}
	for _, p := range to {
		claim.Status.ReservedFor = append(claim.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: p.Name, UID: p.UID})
	}
	require.NoError(t, c.Status().Update(ctx, claim))
	t.Cleanup(func() { c.release(t, claim) })
}

// release is what Kubernetes does when a claim's last pod is gone.
func (c *cluster) release(t *testing.T, claim *resourcev1.ResourceClaim) {
	require.NoError(t, client.IgnoreNotFound(c.Get(ctx, client.ObjectKeyFromObject(claim), claim)))
	claim.Status = resourcev1.ResourceClaimStatus{}
	require.NoError(t, client.IgnoreNotFound(c.Status().Update(ctx, claim)))
}

// waits asserts the mode of a node and what it says that it waits for.
func (c *cluster) waits(t *testing.T, node, mode string, words ...string) {
	t.Helper()
	c.eventually(t, func(t *assert.CollectT) {
		require.Equal(t, mode, c.mode(t, node))
		cond := condition(t, c.state(t, node).Status.Conditions, v1.ConditionMode)
		require.Equal(t, metav1.ConditionFalse, cond.Status)
		for _, w := range words {
			require.Contains(t, cond.Message, w)
		}
	})
}

// A node that is to go back to the device plugin keeps the DRA driver until no pod has a
// claim of it: nothing new is offered, then what is allocated starts, then the device plugin
// comes beside it, and with the last claim the driver goes. Claims of other drivers, and of
// other nodes, are waited for by nobody.
func TestClaimsHoldTheMode(t *testing.T) {
	c := newCluster(t)
	c.draOff(t)
	c.node(t, "dra-hold", nil)
	pool := modePool("dra-hold", "dra-hold", "dra")
	c.create(t, pool)
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, "dra", c.mode(t, "dra-hold")) })
	offer := c.offering(t, "dra-hold", vfDriver, "0000-01-10-0", "0000-01-10-2")
	c.offering(t, "dra-hold", "gpu.example.com", "gpu-0")
	runs, running := c.claimPod(t, "dra-hold", "dra-runs", vfDriver, "0000-01-10-0")
	starts, starting := c.claimPod(t, "dra-hold", "dra-starts", vfDriver, "0000-01-10-2")
	c.claimPod(t, "dra-hold", "dra-gpu", "gpu.example.com", "gpu-0")
	c.claimPod(t, "dra-far", "dra-far", vfDriver, "0000-01-10-0")
	phase := func(p *corev1.Pod, phase corev1.PodPhase) {
		p.Status.Phase = phase
		require.NoError(t, c.Status().Update(ctx, p))
	}
	phase(runs, corev1.PodRunning)

	c.edit(t, pool, func() { pool.Annotations[modeLabel] = "device-plugin" })
	c.waits(t, "dra-hold", "dra-leaving", "still offers 2 devices")
	t.Log("the admin changes their mind")
	c.edit(t, pool, func() { pool.Annotations[modeLabel] = "dra" })
	c.eventually(t, func(t *assert.CollectT) {
		require.Equal(t, "dra", c.mode(t, "dra-hold"))
		require.Equal(t, metav1.ConditionTrue, condition(t, c.state(t, "dra-hold").Status.Conditions, v1.ConditionMode).Status)
	})
	t.Log("and again; the driver withdraws")
	c.edit(t, pool, func() { pool.Annotations[modeLabel] = "device-plugin" })
	c.edit(t, offer, func() { offer.Spec.Devices = nil })
	c.waits(t, "dra-hold", "dra-leaving", "stays away until these run or are gone: pod default/dra-starts (claim dra-starts)")
	phase(starts, corev1.PodRunning)
	c.waits(t, "dra-hold", "dra-rest", "pod default/dra-runs (claim dra-runs)", "pod default/dra-starts (claim dra-starts)")
	require.NotNil(t, c.daemonSet(t, "sriov-dra-driver"))
	c.release(t, running)
	c.waits(t, "dra-hold", "dra-rest", "until these are gone: pod default/dra-starts (claim dra-starts)")
	c.release(t, starting)
	c.eventually(t, func(t *assert.CollectT) {
		require.Empty(t, c.mode(t, "dra-hold"))
		require.Equal(t, metav1.ConditionTrue, condition(t, c.state(t, "dra-hold").Status.Conditions, v1.ConditionMode).Status)
	})
	c.drop(t, pool)
	c.draOff(t)
}

// A pod that never runs, and goes with its claim, is waited for no longer than that.
func TestAClaimGoesBeforeItsPodRuns(t *testing.T) {
	c := newCluster(t)
	c.draOff(t)
	c.node(t, "dra-early", nil)
	pool := modePool("dra-early", "dra-early", "dra")
	c.create(t, pool)
	c.eventually(t, func(t *assert.CollectT) { require.Equal(t, "dra", c.mode(t, "dra-early")) })
	c.offering(t, "dra-early", vfDriver)
	starts, starting := c.claimPod(t, "dra-early", "dra-never", vfDriver, "0000-01-10-0")
	c.edit(t, pool, func() { pool.Annotations[modeLabel] = "device-plugin" })
	c.waits(t, "dra-early", "dra-leaving", "until these run or are gone: pod default/dra-never")
	c.drop(t, starts)
	c.release(t, starting)
	c.eventually(t, func(t *assert.CollectT) { require.Empty(t, c.mode(t, "dra-early")) })
	c.drop(t, pool)
	c.draOff(t)
}
