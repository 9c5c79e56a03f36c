// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"fmt"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// nodesNamed in a condition; of more, their number.
const nodesNamed = 3

// board remembers what became of each policy on each node, so that the status of a
// policy costs no reading of thousands of node states. It is filled by the first
// reconcile of every node and lives as long as the process.
type board struct {
	// Changed is told the names of policies whose status may have changed.
	Changed func(policies []string)

	mu    sync.Mutex
	nodes map[string]map[string]standing // node, policy
}

// standing of one policy on one node.
type standing struct {
	reason, message string
	matched         bool // it has, or should have, VFs there
	ready           bool // the daemon has applied the current spec
	failure         string
}

// Set notes one node's verdicts and how far its daemon got; or why the plan did not get as
// far as the daemon, so that a node which cannot be written to is known like the others.
func (b *board) Set(node string, state *v1.SriovNetworkNodeState, verdicts []plan.Verdict, notWritten string) {
	ready := meta.FindStatusCondition(state.Status.Conditions, v1.ConditionReady)
	done := ready != nil && ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == state.Generation && notWritten == ""
	failure := notWritten
	if failure == "" && state.Status.SyncStatus == v1.SyncFailed {
		failure = state.Status.LastSyncError
	}
	now := make(map[string]standing, len(verdicts))
	for _, v := range verdicts {
		now[v.Policy] = standing{
			reason: v.Reason, message: v.Message, matched: v.Reason != v1.ReasonNoMatch, ready: done && len(v.PFs) > 0, failure: failure,
		}
	}
	b.put(node, now)
}

// Forget drops a node.
func (b *board) Forget(node string) { b.put(node, nil) }

func (b *board) put(node string, now map[string]standing) {
	b.mu.Lock()
	if b.nodes == nil {
		b.nodes = map[string]map[string]standing{}
	}
	was := b.nodes[node]
	var changed []string
	for p, s := range now {
		if had, ok := was[p]; !ok || had != s {
			changed = append(changed, p)
		}
	}
	for p := range was {
		if _, ok := now[p]; !ok {
			changed = append(changed, p)
		}
	}
	if now == nil {
		delete(b.nodes, node)
	} else {
		b.nodes[node] = now
	}
	b.mu.Unlock()
	if len(changed) > 0 {
		b.Changed(changed)
	}
}

// Nodes is how many nodes have been planned.
func (b *board) Nodes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.nodes)
}

// Status sums one policy up over all nodes.
func (b *board) Status(policy string, generation int64) v1.SriovNetworkNodePolicyStatus {
	var out v1.SriovNetworkNodePolicyStatus
	faults := map[string][]string{} // reason, "node: message"
	var first, noMatch string       // of the nodes without a match, the first by name and what it says
	seen := false
	b.mu.Lock()
	for node, all := range b.nodes {
		s, ok := all[policy]
		if !ok {
			continue
		}
		seen = true
		switch {
		case !s.matched:
			if first == "" || node < first {
				first, noMatch = node, node+": "+s.message
			}
			continue
		case s.reason != v1.ReasonApplied:
			faults[s.reason] = append(faults[s.reason], node+": "+s.message)
		case s.failure != "":
			faults[v1.ReasonNodeFailed] = append(faults[v1.ReasonNodeFailed], node+": "+s.failure)
		}
		out.MatchedNodes++
		if s.ready {
			out.ReadyNodes++
		}
	}
	b.mu.Unlock()

	matched := metav1.Condition{Type: v1.ConditionMatched, Status: metav1.ConditionTrue, Reason: v1.ReasonMatched, ObservedGeneration: generation}
	ready := metav1.Condition{Type: v1.ConditionReady, Status: metav1.ConditionFalse, ObservedGeneration: generation}
	switch {
	case !seen:
		matched.Status, matched.Reason, matched.Message = metav1.ConditionFalse, v1.ReasonNoMatch, "nodeSelector matches no node that takes part"
	case out.MatchedNodes == 0:
		matched.Status, matched.Reason, matched.Message = metav1.ConditionFalse, v1.ReasonNoMatch, noMatch
	}
	ready.Reason, ready.Message = matched.Reason, matched.Message
	if out.MatchedNodes > 0 {
		ready.Reason, ready.Message = v1.ReasonApplying, fmt.Sprintf("%d of %d nodes ready", out.ReadyNodes, out.MatchedNodes)
		if out.ReadyNodes == out.MatchedNodes {
			ready.Status, ready.Reason, ready.Message = metav1.ConditionTrue, v1.ReasonApplied, ""
		}
	}
	for _, reason := range []string{v1.ReasonInvalid, v1.ReasonConflict, v1.ReasonNodeFailed, v1.ReasonOverridden} {
		if all := faults[reason]; len(all) > 0 {
			slices.Sort(all)
			ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, reason, apiclient.Some(all, nodesNamed, "nodes")
			break
		}
	}
	out.Conditions = []metav1.Condition{matched, ready}
	return out
}
