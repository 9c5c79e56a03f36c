// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"context"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
)

// statusEvery bounds how often the status of one policy is written while thousands of
// nodes report.
const statusEvery = time.Second

// policyStatus writes what the Board says about a policy to its status.
type policyStatus struct {
	*apiclient.Client
	env.Operator
	Board *board

	complete bool // of the one worker
}

// Reconcile writes one policy's status, if it changed.
func (r *policyStatus) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var p v1.SriovNetworkNodePolicy
	if err := r.Get(ctx, req.NamespacedName, &p); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if complete, err := r.boardComplete(ctx); err != nil {
		return ctrl.Result{}, err
	} else if !complete {
		return ctrl.Result{RequeueAfter: statusEvery}, nil
	}
	status := r.Board.Status(p.Name, p.Generation)
	err := r.PatchStatus(ctx, &p, &p.Status.Conditions, map[string]any{"matchedNodes": status.MatchedNodes, "readyNodes": status.ReadyNodes},
		p.Status.MatchedNodes != status.MatchedNodes || p.Status.ReadyNodes != status.ReadyNodes, status.Conditions...)
	return apiclient.OrAgain(ctrl.Result{}, err)
}

// boardComplete reports whether every node has been planned since the start: before
// that, its figures are too low.
func (r *policyStatus) boardComplete(ctx context.Context) (bool, error) {
	if r.complete {
		return true, nil
	}
	var states v1.SriovNetworkNodeStateList
	if err := r.List(ctx, &states, client.InNamespace(r.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return false, err
	}
	reported := 0
	for i := range states.Items {
		if states.Items[i].Status.SyncStatus != "" && states.Items[i].Annotations[v1.AnnotationKeepUntil] == "" {
			reported++
		}
	}
	r.complete = r.Board.Nodes() >= reported
	return r.complete, nil
}
