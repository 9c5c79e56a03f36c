// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"

	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// pool warns of nodes that are in another pool too, and of a pool without nodes.
func (v *validator) pool(ctx context.Context, p *v1.SriovNetworkPoolConfig, w *warnings) error {
	selector, err := plan.PoolSelector(p)
	if err != nil || p.Spec.OvsHardwareOffloadConfig.Name != "" {
		return err
	}
	if _, err := plan.PoolMode(p); err != nil {
		w.add("%v", err)
	}
	var pools v1.SriovNetworkPoolConfigList
	if err := v.List(ctx, &pools, client.InNamespace(v.namespace), client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	nodes := env.NodeMetaList()
	if err := v.List(ctx, nodes, client.MatchingLabelsSelector{Selector: selector}, client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	if len(nodes.Items) == 0 {
		w.add("nodeSelector matches no node")
	}
	for i := range pools.Items {
		o := &pools.Items[i]
		s, err := plan.PoolSelector(o)
		if err != nil || o.Name == p.Name {
			continue
		}
		for j := range nodes.Items {
			if s.Matches(labels.Set(nodes.Items[j].Labels)) {
				w.of(nodes.Items[j].Name, "also in pool "+o.Name+": it is drained in neither")
			}
		}
	}
	return nil
}
