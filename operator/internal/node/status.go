// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// messageBytes is the most that a condition's message and lastSyncError get; more is cut.
const messageBytes = 4096

// outcome is the result of a pass, as it is reported.
type outcome struct {
	sync    string // v1.SyncSucceeded, SyncInProgress or SyncFailed
	reason  string // of the condition Ready
	message string
}

func failed(reason string, err error) outcome {
	return outcome{sync: v1.SyncFailed, reason: reason, message: strings.ReplaceAll(err.Error(), "\n", "; ")}
}

// report patches the status, if that says anything new. A VF's netdev that a pod takes or
// returns is nothing new by itself: that happens all day.
func (d *Daemon) report(ctx context.Context, state *v1.SriovNetworkNodeState, found Found, o outcome) error {
	if o.reason != v1.ReasonApplying { // the end of the pass is reported later
		syncs.WithLabelValues(o.sync).Inc()
	}
	if o.sync == v1.SyncSucceeded {
		lastSuccess.SetToCurrentTime()
	}
	old := state.DeepCopy()
	s := &state.Status
	ready := metav1.Condition{
		Type: v1.ConditionReady, Status: metav1.ConditionFalse, Reason: o.reason, Message: firstBytes(o.message, messageBytes),
		ObservedGeneration: state.Generation,
	}
	s.SyncStatus, s.LastSyncError = o.sync, ""
	switch {
	case o.sync == v1.SyncFailed:
		s.LastSyncError = ready.Message
	case o.reason == v1.ReasonSynced:
		ready.Status = metav1.ConditionTrue
	}
	news := meta.SetStatusCondition(&s.Conditions, ready) || s.SyncStatus != old.Status.SyncStatus || s.LastSyncError != old.Status.LastSyncError
	if found.Interfaces != nil && (!equality.Semantic.DeepEqual(withoutPodChanges(s.Interfaces), withoutPodChanges(found.Interfaces)) || s.System.RdmaMode != found.RdmaMode) {
		news = true
	}
	if !news {
		return nil
	}
	if found.Interfaces != nil {
		s.Interfaces, s.System.RdmaMode = found.Interfaces, found.RdmaMode
	}
	if err := d.Client.Status().Patch(ctx, state, client.MergeFromWithOptions(old, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("report the node's state: %w", err)
	}
	return nil
}

// withoutPodChanges returns interfaces without the fields that change whenever a pod starts
// or ends.
func withoutPodChanges(in []v1.InterfaceExt) []v1.InterfaceExt {
	out := slices.Clone(in)
	for i := range out {
		if out[i].Virtual() {
			out[i].Name, out[i].Mac, out[i].Mtu, out[i].AltNames, out[i].LinkAdminState, out[i].LinkType = "", "", 0, nil, "", ""
			out[i].PermanentMac = ""
		}
		out[i].VFs = slices.Clone(out[i].VFs)
		for j := range out[i].VFs {
			vf := &out[i].VFs[j]
			vf.Name, vf.Mac, vf.Mtu = "", "", 0
		}
	}
	return out
}

// summary formats works for messages: the number of steps of each kind.
func summary(works []plan.Work) string {
	var out []string
	for _, w := range works {
		var order []plan.Op
		count := map[plan.Op]int{}
		for _, s := range w.Steps {
			if count[s.Op] == 0 {
				order = append(order, s.Op)
			}
			count[s.Op]++
		}
		var ops []string
		for _, op := range order {
			switch n := count[op]; {
			case n > 1:
				ops = append(ops, fmt.Sprintf("%s (%d)", op, n))
			default:
				ops = append(ops, string(op))
			}
		}
		out = append(out, orNode(w.PF)+": "+strings.Join(ops, ", "))
	}
	return strings.Join(out, "; ")
}

func orNode(pf string) string {
	if pf == "" {
		return "node"
	}
	return pf
}

// firstBytes cuts s to at most n bytes, not within a character, and marks the cut.
func firstBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + " ..."
}
