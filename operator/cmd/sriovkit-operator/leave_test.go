// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controlplane"
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

	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errTest)
	defer cancel()
	err = leave(ctx, c, "ns", io.Discard)
	require.ErrorIs(t, err, errTest)
	require.ErrorContains(t, err, "DaemonSet sriov-network-config-daemon, 1 SriovNetworkNodeStates, its marks on 1 Nodes")
	require.ErrorContains(t, err, "does it run?")
	require.True(t, apierrors.IsNotFound(c.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "default"}, &v1.SriovOperatorConfig{})))

	done := make(chan error, 1)
	out, in := io.Pipe()
	go func() {
		done <- leave(t.Context(), c, "ns", in)
	}()
	_, err = out.Read(make([]byte, 1024))
	require.NoError(t, err, "it says what it waits for")
	go func() { _, _ = io.Copy(io.Discard, out) }()
	kubectl("-n", "ns", "delete", "daemonset", "sriov-network-config-daemon")
	kubectl("-n", "ns", "delete", "sriovnetworknodestate", "w1")
	select {
	case err := <-done:
		t.Fatal("a Node is still marked", err)
	default:
	}
	kubectl("label", "node", "w1", "sriovnetwork.openshift.io/device-plugin-")
	require.NoError(t, <-done)
	require.NoError(t, leave(t.Context(), c, "ns", io.Discard), "again")
	kubectl("-n", "ns", "get", "daemonset/somebody-elses", "sriovnetworknodepolicy/kept")
}

type testError string

func (e testError) Error() string { return string(e) }

const errTest = testError("enough")
