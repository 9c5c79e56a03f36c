// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

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
