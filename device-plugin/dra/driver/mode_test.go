// SPDX-License-Identifier: Apache-2.0

package driver_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	dra "k8s.io/kubelet/pkg/apis/dra/v1"
)

// label sets the Node's label as the operator does; "" takes it away.
func (n *node) label(mode string) {
	n.t.Helper()
	node, err := n.api.CoreV1().Nodes().Get(n.t.Context(), "node-1", metav1.GetOptions{})
	require.NoError(n.t, err)
	node.Labels = map[string]string{"sriovkit.io/resource-mode": mode}
	if mode == "" {
		node.Labels = nil
	}
	_, err = n.api.CoreV1().Nodes().Update(n.t.Context(), node, metav1.UpdateOptions{})
	require.NoError(n.t, err)
}

func (n *node) prepare(c *dra.Claim) string {
	n.t.Helper()
	return n.prepares(n.t, c)
}

func (n *node) prepares(t require.TestingT, c *dra.Claim) string {
	r, err := dra.NewDRAPluginClient(n.kube).NodePrepareResources(n.t.Context(), &dra.NodePrepareResourcesRequest{Claims: []*dra.Claim{c}})
	require.NoError(t, err)
	return r.Claims[c.Uid].Error
}

// A node that goes back to the device plugin offers nothing any more at once, prepares what
// was allocated by then, and in the end nothing that it does not have; the label that goes
// brings nothing back. What pods have they keep, and kubelet can end them.
func TestLeavesLive(t *testing.T) {
	t.Parallel()
	n := start(t)
	all := map[string]string{vf0: "", vf1: "", vf2: ""}
	n.published(all)
	n.label("dra-leaving")
	n.published(map[string]string{})
	c := n.claim(vf0)
	require.Empty(t, n.prepare(c))
	n.label("dra-rest")
	late := n.claimOf("late", "5e6f7a8b-5d4c-4a56-9a5e-2f4d1c0b9a87", vf2)
	require.EventuallyWithT(t, func(c *assert.CollectT) { // the label is on its way
		if err := n.prepares(c, late); err != "" {
			require.Contains(c, err, "claim team/late: the node has gone back to the device plugin and prepares no further claims")
			return
		}
		r, err := dra.NewDRAPluginClient(n.kube).NodeUnprepareResources(n.t.Context(), &dra.NodeUnprepareResourcesRequest{Claims: []*dra.Claim{late}})
		require.NoError(c, err)
		require.NotEmpty(c, r.Claims[late.Uid].Error)
	}, patience, tick)
	require.Empty(t, n.prepare(c), "its container starts again")
	n.label("")
	n.Update(t.Context(), n.view(nil))
	n.published(map[string]string{})
	require.NotEmpty(t, n.prepare(late))
	r, err := dra.NewDRAPluginClient(n.kube).NodeUnprepareResources(t.Context(), &dra.NodeUnprepareResourcesRequest{Claims: []*dra.Claim{c}})
	require.NoError(t, err)
	require.Empty(t, r.Claims[c.Uid].Error)
	require.Empty(t, n.files())
	n.label("dra")
	n.published(all)
}
