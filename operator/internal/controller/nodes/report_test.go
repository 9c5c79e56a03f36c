// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"testing"

	"github.com/stretchr/testify/require"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// What the daemon of a node wished before the node went away is not granted when it is back.
func TestWishOfAGoneDaemonIsDropped(t *testing.T) {
	r := &planner{}
	state := &v1.SriovNetworkNodeState{}
	wish := map[string]string{
		v1.AnnotationDesiredState: v1.DrainRequired, v1.AnnotationCurrentState: v1.Draining, v1.AnnotationDrainRequest: "7", v1.AnnotationDrainVFs: "0000:01:10.0", v1.AnnotationDrainPods: "default/user",
	}
	state.Annotations = map[string]string{v1.AnnotationKeepUntil: "2026-01-01T00:00:00Z"}
	for k, v := range wish {
		state.Annotations[k] = v
	}
	r.adorn(state)
	require.Equal(t, map[string]string{
		v1.AnnotationDesiredState: v1.DrainIdle, v1.AnnotationCurrentState: v1.Draining, v1.AnnotationDrainRequest: "7",
	}, state.Annotations, "the number stays: the next wish has another")

	t.Log("that of a daemon that is there stays")
	state.Annotations = wish
	r.adorn(state)
	require.Equal(t, v1.DrainRequired, state.Annotations[v1.AnnotationDesiredState])
	require.Equal(t, "0000:01:10.0", state.Annotations[v1.AnnotationDrainVFs])
}

// A first look that failed is not taken for a node without PFs.
func TestFailedFirstLookIsNotPlanned(t *testing.T) {
	p := newPlanning(t)
	p.Put(p.node("a", nil))
	p.Put(p.policy("x", 4, nil))
	p.settle()
	state := func() *v1.SriovNetworkNodeState {
		return p.Stored["SriovNetworkNodeState/a"].(*v1.SriovNetworkNodeState)
	}
	failed := state().DeepCopy()
	failed.Status.SyncStatus, failed.Status.LastSyncError = v1.SyncFailed, "read /sys/bus/pci/devices: input/output error"
	p.Put(failed)
	p.settle()
	require.NotContains(t, state().Annotations, v1.AnnotationPlanned)
	require.NotContains(t, state().Annotations, v1.AnnotationPlannedPFs)

	p.report("a", "ens1", "ens2")
	p.settle()
	require.Equal(t, "true", state().Annotations[v1.AnnotationPlanned])
	require.Equal(t, "0000:01:00.0,0000:02:00.0", state().Annotations[v1.AnnotationPlannedPFs])
	require.Len(t, state().Spec.Interfaces, 1)
	p.check()

	t.Log("a node without PFs is planned, and also while something else fails later")
	p.Put(p.node("b", nil))
	p.settle()
	p.report("b")
	p.settle()
	b := p.Stored["SriovNetworkNodeState/b"].(*v1.SriovNetworkNodeState).DeepCopy()
	require.Equal(t, "true", b.Annotations[v1.AnnotationPlanned])
	b.Status.SyncStatus = v1.SyncFailed
	require.True(t, reported(b))
}
