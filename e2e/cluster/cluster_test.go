// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/cluster"
)

// start starts a cluster for one test and keeps its logs if the test fails.
func start(t *testing.T, c cluster.Config) *cluster.Cluster {
	t.Helper()
	cluster.Need(t)
	k, err := cluster.Start(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(k.SaveLogs(context.WithoutCancel(t.Context())))
		}
		require.NoError(t, k.Close())
	})
	return k
}

func kubectl(t *testing.T, k *cluster.Cluster, args ...string) string {
	t.Helper()
	out, err := k.Kubectl(t.Context(), nil, args...)
	require.NoError(t, err)
	return strings.TrimSpace(out)
}

// runPod creates a pod that prints its name and sleeps, on the given node, and
// waits until it runs.
func runPod(t *testing.T, k *cluster.Cluster, name, node string) {
	t.Helper()
	require.NoError(t, k.Apply(t.Context(), fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: %s
    command: [sh, -c, "echo I am %[1]s; exec sleep infinity"]
`, name, node, cluster.BusyboxImage)))
	begun := time.Now()
	kubectl(t, k, "wait", "pod/"+name, "--for=condition=Ready", "--timeout=120s")
	t.Logf("pod %s Ready after %.1fs", name, time.Since(begun).Seconds())
}

func TestClusterOneNode(t *testing.T) {
	k := start(t, cluster.Config{})
	node := k.Nodes[0]

	runPod(t, k, "one", "node1")
	require.Equal(t, "I am one", kubectl(t, k, "logs", "one"))
	require.Contains(t, kubectl(t, k, "exec", "one", "--", "ip", "addr", "show", "eth0"), "inet 10.244.0.")
	// The service address of the API server leads to it. wget speaks enough TLS
	// to be told that it must log in.
	out := kubectl(t, k, "exec", "one", "--", "sh", "-c", "echo | nc -w 5 10.96.0.1 443 && echo connected")
	require.Contains(t, out, "connected")

	_, err := node.Output(t.Context(), "sh", "-ec", `
		pf=$(dirname /sys/bus/pci/devices/0000:01:00.0/sriov_numvfs)
		ip link set $(ls $pf/net) up; echo 2 >$pf/sriov_numvfs; ls -d $pf/virtfn0/net/* $pf/virtfn1/net/*`)
	require.NoError(t, err)

	require.NoError(t, node.StopKubelet(t.Context()))
	require.NoError(t, node.StartKubelet(t.Context()))
	require.Eventually(t, func() bool { // it answers before it knows its pods again
		out, err := k.Kubectl(t.Context(), nil, "logs", "one")
		return err == nil && out == "I am one\n"
	}, 5*time.Minute, 100*time.Millisecond, "the pod survives a restart of the kubelet")
	kubectl(t, k, "delete", "pod", "one", "--timeout=60s")
}
