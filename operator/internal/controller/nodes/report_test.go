// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/lagtest"
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

// A plan that no API server stores is not sent, whoever reports that many PFs, and one that is
// refused for good is told too: on the node state, and to the policies, whose status waits for
// every node.
func TestPlanThatCannotBeWritten(t *testing.T) {
	for name, tc := range map[string]struct {
		pfs     int
		refused bool
		says    string
		again   bool
	}{
		"too large": {4000, false, "4000 PFs with their VFs are planned", false},
		"refused":   {2, true, "no, says another's webhook", true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlanning(t)
			p.Put(p.node("a", nil))
			x := p.policy("x", 4, nil)
			x.Spec.NicSelector.PfNames, x.Spec.NicSelector.Vendor = nil, "8086"
			p.Put(x)
			p.settle()
			var names []string
			for i := range tc.pfs {
				names = append(names, fmt.Sprintf("ens%d", i))
			}
			p.report("a", names...)
			for p.Deliver(0) {
			}
			specs := 0
			p.Refuse = func(path string) *apierrors.StatusError {
				if strings.HasSuffix(path, "/status") || !strings.Contains(path, "nodestates") {
					return nil
				}
				specs++
				if tc.refused {
					return apierrors.NewForbidden(schema.GroupResource{Resource: "x"}, "a", fmt.Errorf("no, says another's webhook"))
				}
				return nil
			}
			_, err := p.planner.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: lagtest.Namespace, Name: "a"}})
			require.Equal(t, tc.again, err != nil, err)
			require.Equal(t, tc.refused, specs == 1, "%d patches of the spec", specs)
			state := p.Stored["SriovNetworkNodeState/a"].(*v1.SriovNetworkNodeState)
			require.Empty(t, state.Spec.Interfaces)
			told := meta.FindStatusCondition(state.Status.Conditions, v1.ConditionPlanned)
			require.NotNil(t, told)
			require.Equal(t, v1.ReasonNotWritten, told.Reason)
			require.Contains(t, told.Message, tc.says)
			require.Equal(t, 1, p.planner.Board.Nodes(), "the status of policies waits for all nodes")
			status := p.planner.Board.Status("x", 1)
			require.Equal(t, 0, status.ReadyNodes)
			require.Equal(t, v1.ReasonNodeFailed, status.Conditions[1].Reason)
			require.Contains(t, status.Conditions[1].Message, "a: ")
		})
	}
}
