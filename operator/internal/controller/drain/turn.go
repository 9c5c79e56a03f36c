// SPDX-License-Identifier: Apache-2.0

package drain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// take reserves a slot; why says what stands against it. Caches of different kinds are late
// by different times: that of node states may have the wish while that of pools has not
// the pool yet which forbids it. So what the caches allow is looked at again past them.
func (r *drainer) take(ctx context.Context, node *metav1.PartialObjectMetadata) (why string, err error) {
	if err := r.seed(ctx); err != nil {
		return "", err
	}
	var seen, now v1.SriovNetworkPoolConfigList
	if err := r.List(ctx, &seen, client.InNamespace(r.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return "", err
	}
	if why, err := r.takeIf(ctx, seen.Items, node, r.slots.ask); err != nil || why != "" {
		return why, err
	}
	live := env.NodeMeta()
	if err := errors.Join(r.Live.Get(ctx, client.ObjectKey{Name: node.Name}, live), r.Live.List(ctx, &now, client.InNamespace(r.Namespace))); err != nil {
		return "", err
	}
	next, err := r.repool(ctx, now.Items)
	r.Wake(next)
	if err != nil {
		return "", err
	}
	return r.takeIf(ctx, now.Items, live, r.slots.take)
}

// takeIf takes a slot of the pool that the node is in, if there is room.
func (r *drainer) takeIf(ctx context.Context, configs []v1.SriovNetworkPoolConfig, node *metav1.PartialObjectMetadata, take func(node, pool string, room int) (int, bool)) (why string, err error) {
	in := r.pools.Selecting(configs, node.Labels)
	if len(in) > 1 {
		r.slots.forget(node.Name)
		return fmt.Sprintf("the node is in pools %s and %s: leave it in one", in[0].Name, in[1].Name), nil
	}
	// Nodes in no pool are one pool of their own, drained one at a time.
	name, room := "", 1
	if len(in) == 1 {
		name = in[0].Name
		if room, err = r.room(ctx, in[0]); err != nil {
			r.slots.forget(node.Name)
			return fmt.Sprintf("pool %s: %v", name, err), nil
		}
	}
	if used, ok := take(node.Name, name, room); !ok {
		return fmt.Sprintf("%d of %d nodes that may be unavailable at once are being drained", used, room), nil
	}
	return "", nil
}

// repool counts the slots in use anew, if the pools are others than before, and names
// nodes that may have their turn now.
func (r *drainer) repool(ctx context.Context, configs []v1.SriovNetworkPoolConfig) (next []string, err error) {
	var seen []string
	for i := range configs {
		seen = append(seen, fmt.Sprintf("%s %d", configs[i].UID, configs[i].Generation))
	}
	slices.Sort(seen)
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := strings.Join(seen, ","); now != r.pooled {
		for _, name := range r.slots.nodes() {
			node := env.NodeMeta()
			if err := r.Get(ctx, client.ObjectKey{Name: name}, node, client.UnsafeDisableDeepCopy); client.IgnoreNotFound(err) != nil {
				return next, err
			} else if err == nil {
				next = append(next, r.slots.move(name, first(r.pools.Selecting(configs, node.Labels)))...)
			}
		}
		r.pooled = now
	}
	return next, nil
}

// seed makes the slots known that were in use before the start. The caches may be behind
// what the leader before has written last.
func (r *drainer) seed(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seeded {
		return nil
	}
	states := &metav1.PartialObjectMetadataList{}
	states.SetGroupVersionKind(v1.GroupVersion.WithKind("SriovNetworkNodeStateList"))
	if err := r.Live.List(ctx, states, client.InNamespace(r.Namespace)); err != nil {
		return err
	}
	for i := range states.Items {
		if !busy(&states.Items[i]) {
			continue
		}
		node := env.NodeMeta()
		if err := r.Get(ctx, client.ObjectKey{Name: states.Items[i].Name}, node, client.UnsafeDisableDeepCopy); client.IgnoreNotFound(err) != nil {
			return err
		} else if err != nil {
			continue
		}
		pool, err := r.pool(ctx, node)
		if err != nil {
			return err
		}
		r.slots.hold(node.Name, pool)
	}
	r.seeded = true
	return nil
}

// room is how many nodes of a pool may be drained at once. Only a percentage needs
// their number.
func (r *drainer) room(ctx context.Context, p *v1.SriovNetworkPoolConfig) (int, error) {
	if p.Spec.MaxUnavailable == nil || p.Spec.MaxUnavailable.Type != intstr.String {
		return plan.PoolLimit(p.Spec.MaxUnavailable, 0)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	size := r.sizes[p.UID]
	if size.generation != p.Generation || time.Since(size.counted) > sizeAge {
		selector, err := plan.PoolSelector(p)
		if err != nil {
			return 0, err
		}
		members := env.NodeMetaList()
		if err := r.List(ctx, members, client.MatchingLabelsSelector{Selector: selector}, client.UnsafeDisableDeepCopy); err != nil {
			return 0, err
		}
		size = poolSize{nodes: len(members.Items), generation: p.Generation, counted: time.Now()}
		if r.sizes == nil {
			r.sizes = map[types.UID]poolSize{}
		}
		r.sizes[p.UID] = size
	}
	return plan.PoolLimit(p.Spec.MaxUnavailable, size.nodes)
}
