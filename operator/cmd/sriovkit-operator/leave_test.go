// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controlplane"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

// The configuration goes at once and is waited for until nothing that was made for it is
// there; without an operator that does that, the error names what is left and what to do.
func TestLeave(t *testing.T) {
	controlplane.Need(t)
	plane, err := controlplane.Start(context.WithoutCancel(t.Context()), controlplane.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, plane.Close()) })
	kubectl := func(args ...string) {
		t.Helper()
		out, err := plane.Kubectl(t.Context(), nil, args...)
		require.NoError(t, err, "%v: %s", args, out)
	}
	kubectl("apply", "-k", "../../config/crd", "--server-side")
	kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
	kubectl("apply", "-f", "testdata/leave.yaml")
	config, err := clientcmd.BuildConfigFromFlags("", plane.Kubeconfig)
	require.NoError(t, err)
	scheme, err := newScheme()
	require.NoError(t, err)
	c, err := client.New(config, client.Options{Scheme: scheme})
	require.NoError(t, err)

	require.NoError(t, noClaims(t.Context(), c))
	for _, driver := range []string{"gpu.example.com", deploy.DRADriver} {
		claim := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", GenerateName: "claim-"}}
		claim.Spec.Devices.Requests = []resourcev1.DeviceRequest{{Name: "vf", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "any"}}}
		require.NoError(t, c.Create(t.Context(), claim))
		require.NoError(t, noClaims(t.Context(), c), "not allocated, or another driver's")
		claim.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{
			{Request: "vf", Driver: driver, Pool: "w1", Device: "d"},
		}}}
		require.NoError(t, c.Status().Update(t.Context(), claim))
		if driver == deploy.DRADriver {
			require.ErrorContains(t, noClaims(t.Context(), c), "the claims ns/"+claim.Name+" have VFs")
		}
	}

	args := []string{"leave", "-kubeconfig", plane.Kubeconfig, "-namespace", "ns"}
	cfg := client.ObjectKey{Namespace: "ns", Name: "default"}
	_, _, err = call(t, nil, args...)
	require.ErrorContains(t, err, "or go on with -force")
	require.NoError(t, c.Get(t.Context(), cfg, &v1.SriovOperatorConfig{}), "nothing was taken away")

	_, _, err = call(t, nil, append(args, "-force")...)
	require.ErrorContains(t, err, "no operator runs in namespace ns, and DaemonSet sriov-network-config-daemon")
	require.ErrorContains(t, err, "nothing was removed")
	require.NoError(t, c.Get(t.Context(), cfg, &v1.SriovOperatorConfig{}))
	kubectl("-n", "ns", "create", "deployment", "sriov-network-operator", "--image=a")
	ctx, cancel := context.WithCancelCause(t.Context())
	err = leave(ctx, c, "ns", onWrite(func() { cancel(errTest) })) // it waits for a replica
	require.ErrorIs(t, err, errTest)
	require.ErrorContains(t, err, "no replica of the operator is known to be available")
	require.NoError(t, c.Get(t.Context(), cfg, &v1.SriovOperatorConfig{}))
	kubectl("-n", "ns", "patch", "deployment", "sriov-network-operator", "--subresource=status", "--type=merge",
		"-p", `{"status": {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1}}`)

	ctx, cancel = context.WithCancelCause(t.Context())
	err = leave(ctx, c, "ns", onWrite(func() { cancel(errTest) })) // enough, once it has said what it waits for
	require.ErrorIs(t, err, errTest)
	require.ErrorContains(t, err, "DaemonSet sriov-network-config-daemon, 1 SriovNetworkNodeStates, its marks on 1 Nodes")
	require.ErrorContains(t, err, "does it run?")
	require.True(t, apierrors.IsNotFound(c.Get(t.Context(), cfg, &v1.SriovOperatorConfig{})))

	done := make(chan error, 1)
	out, in := io.Pipe()
	go func() {
		done <- leave(t.Context(), c, "ns", in)
	}()
	_, err = out.Read(make([]byte, 1024))
	require.NoError(t, err, "it says what it waits for")
	go func() { _, _ = io.Copy(io.Discard, out) }()
	again := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: cfg.Namespace, Name: cfg.Name}}
	require.NoError(t, c.Create(t.Context(), again), "as a replica that begins to work may")
	kubectl("-n", "ns", "delete", "daemonset", "sriov-network-config-daemon")
	kubectl("-n", "ns", "delete", "sriovnetworknodestate", "w1")
	select {
	case err := <-done:
		t.Fatal("a Node is still marked", err)
	default:
	}
	kubectl("label", "node", "w1", "sriovnetwork.openshift.io/device-plugin-")
	for _, key := range []string{v1.AnnotationNodeState, v1.AnnotationCordoned, v1.AnnotationModeSet} {
		kubectl("annotate", "node", "w2", key+"=true")
		left, err := leftovers(t.Context(), c, "ns")
		require.NoError(t, err)
		require.Contains(t, left, "its marks on ", key)
		kubectl("annotate", "node", "w2", key+"-")
	}
	kubectl("annotate", "node", "w1", v1.AnnotationCordoned+"-")
	require.NoError(t, <-done)
	require.True(t, apierrors.IsNotFound(c.Get(t.Context(), cfg, &v1.SriovOperatorConfig{})))
	require.NoError(t, leave(t.Context(), c, "ns", io.Discard), "again")
	said, _, err := call(t, nil, append(args, "-force")...)
	require.NoError(t, err, "though claims have VFs")
	require.Equal(t, "nothing of the operator is left on the nodes\n", said)
	kubectl("-n", "ns", "get", "daemonset/somebody-elses", "sriovnetworknodepolicy/kept")
}

// onWrite is a writer that tells of each write.
type onWrite func()

func (f onWrite) Write(p []byte) (int, error) {
	f()
	return len(p), nil
}

type testError string

func (e testError) Error() string { return string(e) }

const errTest = testError("enough")
