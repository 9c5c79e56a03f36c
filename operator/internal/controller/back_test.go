// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controlplane"
	"github.com/sriovkit/sriovkit/operator/internal/soak"
)

// A policy is changed and changed back on many nodes, with a pause of its own each time, so
// that the second change meets the first at every stage. Once the operator has nothing more
// to do, no node is left with what was withdrawn. (make soak SOAK=200 RUN=ManyNodes: 1 000
// rounds on 150 nodes.)
func TestChangedAndChangedBackOnManyNodes(t *testing.T) {
	controlplane.Need(t)
	t.Parallel() // a control plane of its own
	rounds, nodes := soak.Times(5), min(soak.Times(20), 150)
	c, err := startPlane(t.Context(), controlplane.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.plane.Close()) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	metrics := l.Addr().String()
	require.NoError(t, l.Close())
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), buildOperator(t), "operator", "-kubeconfig", c.kubeconfig(t), "-leader-elect=false", "-metrics-bind-address", metrics, "-health-probe-bind-address=0", "-webhook-bind-address=0")
	cmd.Env = []string{"NAMESPACE=" + ns, "RESOURCE_PREFIX=" + prefix, "SRIOV_NETWORK_CONFIG_DAEMON_IMAGE=operator:test", "CREATE_DEFAULT_CONFIG=true"}
	var log bytes.Buffer
	cmd.Stderr = &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	for i := range nodes {
		name := fmt.Sprintf("back-%d", i)
		require.NoError(t, c.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/os": "linux"}}}))
	}
	for i := range nodes {
		c.report(t, fmt.Sprintf("back-%d", i), v1.SyncSucceeded, igb("ens1", "0000:01:00.0"))
	}
	p := policy("back", "", func(s *v1.SriovNetworkNodePolicySpec) {
		s.NumVfs, s.NodeSelector = 6, map[string]string{"kubernetes.io/os": "linux"}
	})
	require.NoError(t, c.Create(ctx, p))
	set := func(n int) {
		require.NoError(t, c.Patch(ctx, p, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"numVfs":%d}}`, n))))
	}
	settled := func() {
		t.Helper()
		var wrong []string
		for begun := time.Now(); time.Since(begun) < 2*time.Minute; time.Sleep(50 * time.Millisecond) {
			if !idle(metrics) {
				continue
			}
			if wrong = c.without(t, 6); len(wrong) == 0 {
				return
			}
		}
		require.Empty(t, wrong)
	}
	settled()
	touched := 0
	for round := range rounds {
		pause := time.Duration(rand.IntN(400)) * time.Millisecond
		set(3)
		time.Sleep(pause)
		touched += len(c.without(t, 6))
		set(6)
		settled()
		if round%50 == 49 {
			t.Logf("%d rounds, %d node states changed and changed back", round+1, touched)
		}
	}
}

// without names the node states that do not have so many VFs.
func (c *cluster) without(t *testing.T, vfs int) (wrong []string) {
	t.Helper()
	var states v1.SriovNetworkNodeStateList
	require.NoError(t, c.List(ctx, &states, client.InNamespace(ns)))
	for i := range states.Items {
		if ifaces := states.Items[i].Spec.Interfaces; len(ifaces) != 1 || ifaces[0].NumVfs != vfs {
			wrong = append(wrong, states.Items[i].Name)
		}
	}
	return wrong
}

// idle reports whether an operator says that it has nothing to do for nodes.
func idle(metrics string) bool {
	resp, err := http.Get("http://" + metrics + "/metrics")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	said := 0
	for scanner := bufio.NewScanner(resp.Body); scanner.Scan(); {
		line := scanner.Text()
		if strings.HasPrefix(line, `workqueue_depth{controller="nodes"`) || strings.HasPrefix(line, `controller_runtime_active_workers{controller="nodes"}`) {
			if !strings.HasSuffix(line, " 0") {
				return false
			}
			said++
		}
	}
	return said >= 2
}
