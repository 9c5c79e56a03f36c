// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controlplane"
)

// Whatever is deleted first, and all in one go, nothing stays: no
// NetworkAttachmentDefinition, nothing on a Node, no cordon of a drain that was under way.
func TestNothingIsLeftBehind(t *testing.T) {
	controlplane.Need(t)
	t.Parallel() // a control plane of its own, and long waits for it
	program := buildOperator(t)
	c, err := startPlane(t.Context(), controlplane.Config{Controllers: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.plane.Close()) })
	c.namespace(t, "left-app")
	all := []string{"delete", "-k", "../../config", "--ignore-not-found", "--timeout=5m"}
	for name, commands := range map[string][][]string{
		"all in one go":       {all},
		"the namespace first": {{"delete", "namespace", ns, "--timeout=5m"}, all},
		"the CRDs first":      {{"delete", "-k", "../../config/crd", "--timeout=5m"}, all},
		"the rights last":     {{"delete", "deployment", "-n", ns, "sriov-network-operator"}, {"delete", "sriovoperatorconfigs", "-n", ns, "--all"}, all},
	} {
		t.Run(name, func(t *testing.T) {
			c.eventually(t, func(t *assert.CollectT) { // the namespace of before may still be going
				out, err := c.plane.Kubectl(ctx, nil, "apply", "-k", "../../config")
				require.NoError(t, err, out)
			})
			// Nobody here starts a program again that ends because its kinds are not served yet.
			out, err := c.plane.Kubectl(ctx, nil, "wait", "crd", "--all", "--for=condition=Established", "--timeout=5m")
			require.NoError(t, err, out)
			cmd := c.netns.Command(context.WithoutCancel(t.Context()), program, arguments(c.kubeconfig(t))...)
			cmd.Env = []string{"NAMESPACE=" + ns, "RESOURCE_PREFIX=" + prefix, "SRIOV_NETWORK_CONFIG_DAEMON_IMAGE=operator:test", "CREATE_DEFAULT_CONFIG=true"}
			require.NoError(t, cmd.Start())
			t.Cleanup(func() { // it may have ended with its lease
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			})
			c.configureOnce(t, draGate)
			nodes := []string{"left-a", "left-b", "left-c"}
			for _, n := range nodes {
				c.node(t, n, nil)
			}
			c.create(t, sriovNetwork(ns, "left-over", in("left-app")))
			c.create(t, policy("left", "left-a"))
			c.budget(t, "left-b", c.pod(t, "left-b", "left-b", true))
			c.ask(t, "left-b", v1.DrainRequired)
			c.eventually(t, func(t *assert.CollectT) {
				require.True(t, c.cordoned(t, "left-b"))
				for _, n := range nodes {
					var node corev1.Node
					require.NoError(t, c.Get(ctx, client.ObjectKey{Name: n}, &node))
					require.NotEmpty(t, node.Labels[v1.LabelDevicePlugin])
					require.NotEmpty(t, node.Annotations[v1.AnnotationNodeState])
					require.Equal(t, v1.ResourceModeDRA, node.Labels[v1.LabelResourceMode])
					require.NotEmpty(t, c.classes(t))
				}
				c.nad(t, "left-app", "left-over")
			})
			for _, args := range commands {
				out, err := c.plane.Kubectl(ctx, nil, args...)
				require.NoError(t, err, out)
			}
			c.eventually(t, func(t *assert.CollectT) {
				for _, n := range nodes {
					var node corev1.Node
					require.NoError(t, c.Get(ctx, client.ObjectKey{Name: n}, &node))
					require.NotContains(t, node.Labels, v1.LabelDevicePlugin, n)
					require.NotContains(t, node.Annotations, v1.AnnotationNodeState, n)
					require.NotContains(t, node.Labels, v1.LabelResourceMode, n)
					require.NotContains(t, node.Annotations, v1.AnnotationModeSet, n)
					require.NotContains(t, node.Annotations, v1.AnnotationCordoned, n)
					require.False(t, node.Spec.Unschedulable, n)
				}
			})
			// Garbage collection looks for new kinds every half minute.
			c.eventually(t, func(t *assert.CollectT) {
				c.noNAD(t, "left-app", "left-over")
				require.Empty(t, c.classes(t))
			})
		})
	}
}

// configureOnce changes the configuration that the operator makes at its start.
func (c *cluster) configureOnce(t *testing.T, change func(*v1.SriovOperatorConfigSpec)) {
	t.Helper()
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "default"}}
	c.eventually(t, func(t *assert.CollectT) { require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(cfg), cfg)) })
	c.edit(t, cfg, func() { change(&cfg.Spec) })
}
