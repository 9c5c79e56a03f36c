// SPDX-License-Identifier: Apache-2.0

// Package pools knows which nodes a SriovNetworkPoolConfig is about, and keeps its status.
package pools

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// status counts the nodes of a pool and says whether it can be used.
type status struct {
	*apiclient.Client
	env.Operator
}

// Reconcile writes one pool's status, if it changed.
func (r *status) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var p v1.SriovNetworkPoolConfig
	if err := r.Get(ctx, req.NamespacedName, &p); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	ready := metav1.Condition{Type: v1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1.ReasonPoolReady, ObservedGeneration: p.Generation}
	fault := func(reason string, format string, args ...any) {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, reason, fmt.Sprintf(format, args...)
	}
	nodes := env.NodeMetaList()
	selector, err := plan.PoolSelector(&p)
	if err != nil {
		fault(v1.ReasonInvalid, "%v", err)
	} else if err := r.List(ctx, nodes, client.MatchingLabelsSelector{Selector: selector}, client.UnsafeDisableDeepCopy); err != nil {
		return ctrl.Result{}, err
	}
	if _, err := plan.PoolLimit(p.Spec.MaxUnavailable, len(nodes.Items)); err != nil {
		fault(v1.ReasonInvalid, "%v", err)
	}
	if _, err := plan.PoolMode(&p); err != nil {
		fault(v1.ReasonInvalid, "%v", err)
	}
	others, err := r.others(ctx, p.Name)
	if err != nil {
		return ctrl.Result{}, err
	}
	for i := range nodes.Items {
		for name, s := range others {
			if s.Matches(labels.Set(nodes.Items[i].Labels)) {
				fault(v1.ReasonPoolOverlap, "node %s is in pools %s and %s: it is drained in neither", nodes.Items[i].Name, min(p.Name, name), max(p.Name, name))
			}
		}
		if ready.Reason == v1.ReasonPoolOverlap {
			break
		}
	}
	if name := p.Spec.OvsHardwareOffloadConfig.Name; name != "" {
		fault(v1.ReasonConfigUnsupported, "ovsHardwareOffloadConfig %q: OVS hardware offload is not configured by this operator; the pool has no effect", name)
	}
	err = r.PatchStatus(ctx, &p, &p.Status.Conditions, map[string]any{"nodes": len(nodes.Items)}, p.Status.Nodes != len(nodes.Items), ready)
	return apiclient.OrAgain(ctrl.Result{}, err)
}

// others has the selectors of the other pools, by name.
func (r *status) others(ctx context.Context, name string) (map[string]labels.Selector, error) {
	var pools v1.SriovNetworkPoolConfigList
	if err := r.List(ctx, &pools, client.InNamespace(r.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	out := map[string]labels.Selector{}
	for i := range pools.Items {
		if s, err := plan.PoolSelector(&pools.Items[i]); err == nil && pools.Items[i].Name != name {
			out[pools.Items[i].Name] = s
		}
	}
	return out, nil
}
