// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// metric reads one value as a scrape would; -1 if it is not there.
func metric(t require.TestingT, name string, labels map[string]string) float64 {
	families, err := metrics.Registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			matched := 0
			for _, l := range m.GetLabel() {
				if labels[l.GetName()] == l.GetValue() {
					matched++
				}
			}
			if matched == len(labels) {
				return m.GetGauge().GetValue()
			}
		}
	}
	return -1
}

func TestMetricsFollowTheNodes(t *testing.T) {
	c := newCluster(t)
	failed := metric(t, "sriovkit_operator_nodes", map[string]string{"sync": "Failed"})
	c.node(t, "counted", nil)
	c.create(t, policy("counted", "counted"))
	c.report(t, "counted", v1.SyncFailed)
	c.eventually(t, func(t *assert.CollectT) {
		require.Equal(t, max(failed, 0)+1, metric(t, "sriovkit_operator_nodes", map[string]string{"sync": "Failed"}))
		require.Equal(t, 1.0, metric(t, "sriovkit_operator_policy_nodes", map[string]string{"policy": "counted", "state": "matched"}))
		require.Equal(t, 0.0, metric(t, "sriovkit_operator_policy_nodes", map[string]string{"policy": "counted", "state": "ready"}))
	})
	c.ask(t, "counted", v1.DrainRequired)
	c.eventually(t, func(t *assert.CollectT) {
		require.Equal(t, 1.0, metric(t, "sriovkit_operator_draining_nodes", map[string]string{"state": "drained"}))
	})
	c.ask(t, "counted", v1.DrainIdle)
	c.eventually(t, func(t *assert.CollectT) {
		require.Equal(t, 0.0, metric(t, "sriovkit_operator_draining_nodes", map[string]string{"state": "drained"}))
	})
}
