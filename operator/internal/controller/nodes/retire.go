// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

// retire keeps the state of a node that went away for a while: it may come back, and
// should then find its VFs.
func (r *planner) retire(ctx context.Context, node *metav1.PartialObjectMetadata, state *v1.SriovNetworkNodeState, name string) (ctrl.Result, error) {
	r.Board.Forget(name)
	if node != nil {
		if err := r.strip(ctx, node); err != nil {
			return ctrl.Result{}, err
		}
	}
	if state == nil || !state.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	until, err := time.Parse(time.RFC3339, state.Annotations[v1.AnnotationKeepUntil])
	if err != nil {
		until = time.Now().Add(time.Duration(r.KeepStaleMinutes) * time.Minute)
		old := state
		state = state.DeepCopy()
		if state.Annotations == nil {
			state.Annotations = map[string]string{}
		}
		state.Annotations[v1.AnnotationKeepUntil] = until.UTC().Format(time.RFC3339)
		if r.KeepStaleMinutes > 0 {
			if err := r.Patch(ctx, state, apiclient.Locked(old), apiclient.FieldOwner); err != nil {
				return ctrl.Result{}, client.IgnoreNotFound(err)
			}
		}
	}
	if left := time.Until(until); left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	if back, err := r.back(ctx, name); err != nil {
		return ctrl.Result{}, err
	} else if back {
		return ctrl.Result{RequeueAfter: apiclient.ConflictAgain}, nil
	}
	return ctrl.Result{}, client.IgnoreNotFound(r.Delete(ctx, state, client.Preconditions{UID: &state.UID, ResourceVersion: &state.ResourceVersion}))
}

// back asks the API server whether a node is selected after all, before its node state is
// deleted with all that it records. The caches of Nodes and of the configuration may be older
// than that of node states.
func (r *planner) back(ctx context.Context, name string) (bool, error) {
	cfg, err := r.Config(ctx, r.Live)
	if err != nil || cfg == nil {
		return false, err
	}
	node := env.NodeMeta()
	if err := r.Live.Get(ctx, client.ObjectKey{Name: name}, node); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return node.DeletionTimestamp.IsZero() && deploy.Selected(&cfg.Spec, node.Labels), nil
}
