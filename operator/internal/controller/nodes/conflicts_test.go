// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"testing"

	"github.com/stretchr/testify/require"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// Bridges that upstream's operator left in a node's spec are kept, and reported as not managed.
func TestBridgesAreReported(t *testing.T) {
	var state v1.SriovNetworkNodeState
	require.Nil(t, reportConflicts(&state, nil))
	state.Spec.Bridges.OVS = []v1.OVSConfigExt{{Name: "br-0000_01_00.0"}}
	c := reportConflicts(&state, nil)
	require.NotNil(t, c)
	require.Equal(t, v1.ConditionPlanned, c.Type)
	require.Contains(t, c.Message, "spec.bridges: OVS bridges are not managed by this operator")
	c = reportConflicts(&state, []plan.Verdict{{Policy: "a", Reason: v1.ReasonInvalid, Message: "numVfs is 0"}})
	require.Contains(t, c.Message, "policy a: numVfs is 0")
	require.Contains(t, c.Message, "spec.bridges")
}
