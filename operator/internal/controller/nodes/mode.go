// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"context"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/dra"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// modeChange is what becomes of a Node's label of the mode.
type modeChange int

const (
	modeKept      modeChange = iota
	modeToDRA                // set, and remembered that the operator did
	modeToLeaving            // likewise
	modeToRest               // likewise
	modeRemoved              // taken away, and the memory of it
)

// modeLabels are the values that the label is set to.
var modeLabels = map[modeChange]string{
	modeToDRA: v1.ResourceModeDRA, modeToLeaving: v1.ResourceModeLeaving, modeToRest: v1.ResourceModeRest,
}

// add puts the change into a patch.
func (m modeChange) add(labels, annotations map[string]any) {
	switch m {
	case modeKept:
	case modeRemoved:
		labels[v1.LabelResourceMode], annotations[v1.AnnotationModeSet] = nil, nil
	default:
		labels[v1.LabelResourceMode], annotations[v1.AnnotationModeSet] = modeLabels[m], "true"
	}
}

// modeTurn is what becomes of a node's mode.
type modeTurn struct {
	change modeChange
	// wait is what a node waits for that leaves mode dra; "" leaves none.
	wait  string
	again time.Duration // until the next look; 0 for none
}

// mode is what has to become of the label. While nobody asks the operator for DRA, it changes
// only a label that it set itself.
func (r *planner) mode(ctx context.Context, cfg *v1.SriovOperatorConfig, node *metav1.PartialObjectMetadata, pools []*v1.SriovNetworkPoolConfig) (modeTurn, error) {
	if !dra.Served(cfg) {
		return r.modeOff(ctx, node, false), nil
	}
	wanted, err := dra.Wanted(ctx, r, r.Namespace, cfg)
	if err != nil {
		return modeTurn{}, err
	}
	if !wanted {
		return r.modeOff(ctx, node, false), nil
	}
	switch mode, known := plan.NodeMode(pools, dra.Default(cfg)); {
	case !known:
		return modeTurn{}, nil
	case mode != v1.ResourceModeDRA:
		return r.modeOff(ctx, node, true), nil
	case node.Labels[v1.LabelResourceMode] == v1.ResourceModeDRA:
		return modeTurn{}, nil
	}
	return modeTurn{change: modeToDRA}, nil
}

// modeOff brings the node out of mode dra, if the operator brought it there; out of an
// admin's only if others too. Pods that have claims come first.
func (r *planner) modeOff(ctx context.Context, node *metav1.PartialObjectMetadata, others bool) modeTurn {
	if !modeOurs(node, others) {
		return modeTurn{}
	}
	mode := node.Labels[v1.LabelResourceMode]
	if !slices.Contains(slices.Collect(maps.Values(modeLabels)), mode) { // somebody else ended it
		return modeTurn{change: modeRemoved}
	}
	change, wait := r.Leaving.step(ctx, node.Name, mode)
	turn := modeTurn{change: change, wait: wait, again: leavingAgain}
	if mode == v1.ResourceModeRest {
		turn.again = restAgain
	}
	if change == modeRemoved {
		turn.again = 0
	}
	return turn
}

// modeOurs reports whether a label of a mode is the operator's business.
func modeOurs(node *metav1.PartialObjectMetadata, others bool) bool {
	own := node.Annotations[v1.AnnotationModeSet] != ""
	mode := node.Labels[v1.LabelResourceMode]
	return own || others && mode != "" && slices.Contains(slices.Collect(maps.Values(modeLabels)), mode)
}

// modeCondition says on the node state what its node waits for; nil is no news.
func modeCondition(state *v1.SriovNetworkNodeState, turn modeTurn) *metav1.Condition {
	had := meta.FindStatusCondition(state.Status.Conditions, v1.ConditionMode)
	cond := &metav1.Condition{Type: v1.ConditionMode, Status: metav1.ConditionTrue, Reason: v1.ReasonModeSet, ObservedGeneration: state.Generation}
	if turn.wait != "" {
		cond.Status, cond.Reason, cond.Message = metav1.ConditionFalse, v1.ReasonLeavingDRA, turn.wait
		return cond
	}
	if had == nil || had.Status == metav1.ConditionTrue {
		return nil
	}
	return cond
}
