// SPDX-License-Identifier: Apache-2.0

package pools

import (
	"context"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// Selectors finds the pools of nodes. It reads the selector of a pool once for each of its
// generations: one that lists thousands of names takes milliseconds, for each of thousands of
// nodes. Of pools that are gone it keeps nothing. The zero value is ready to use.
type Selectors struct {
	mu   sync.RWMutex
	read map[types.UID]selector
}

type selector struct {
	labels.Selector // nil if the pool has none that can be read
	generation      int64
	deleted         bool
}

func (s selector) isOf(p *v1.SriovNetworkPoolConfig) bool {
	return s.generation == p.Generation && s.deleted == !p.DeletionTimestamp.IsZero()
}

// Of lists the pools a node with these labels is in, by name. More than one is a
// mistake; pools for OVS hardware offload alone select no nodes here.
func (s *Selectors) Of(ctx context.Context, c client.Reader, namespace string, nodeLabels map[string]string) ([]*v1.SriovNetworkPoolConfig, error) {
	var list v1.SriovNetworkPoolConfigList
	if err := c.List(ctx, &list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	return s.Selecting(list.Items, nodeLabels), nil
}

// Selecting picks the pools that a node with these labels is in, by name; pools are all that
// there are.
func (s *Selectors) Selecting(pools []v1.SriovNetworkPoolConfig, nodeLabels map[string]string) []*v1.SriovNetworkPoolConfig {
	var out []*v1.SriovNetworkPoolConfig
	for i, selector := range s.all(pools) {
		if selects(selector, nodeLabels) {
			out = append(out, &pools[i])
		}
	}
	slices.SortFunc(out, func(a, b *v1.SriovNetworkPoolConfig) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func selects(s labels.Selector, nodeLabels map[string]string) bool {
	return s != nil && s.Matches(labels.Set(nodeLabels))
}

// all has the selector of each pool, nil where it cannot be read.
func (s *Selectors) all(pools []v1.SriovNetworkPoolConfig) []labels.Selector {
	out := make([]labels.Selector, len(pools))
	s.mu.RLock()
	current := len(s.read) <= len(pools)
	for i := range pools {
		known, ok := s.read[pools[i].UID]
		if out[i] = known.Selector; !ok || !known.isOf(&pools[i]) {
			current = false
		}
	}
	s.mu.RUnlock()
	if current {
		return out
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	read := map[types.UID]selector{}
	for i := range pools {
		p := &pools[i]
		known, ok := s.read[p.UID]
		if !ok || !known.isOf(p) {
			known = selector{generation: p.Generation, deleted: !p.DeletionTimestamp.IsZero()}
			if is, err := plan.PoolSelector(p); err == nil {
				known.Selector = is
			}
		}
		if out[i] = known.Selector; p.Generation > 0 { // by an API server it is
			read[p.UID] = known
		}
	}
	s.read = read
	return out
}
