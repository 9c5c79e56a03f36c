// SPDX-License-Identifier: Apache-2.0

package pools

import (
	"context"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// Selectors finds the pools of nodes. It reads the selector of a pool once for each of its
// generations: one that lists thousands of names takes milliseconds, for each of thousands of
// nodes. The zero value is ready to use.
type Selectors struct{ read sync.Map } // types.UID, selector

type selector struct {
	labels.Selector // nil if the pool has none that can be read
	generation      int64
	deleted         bool
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

// Selecting picks the pools that a node with these labels is in, by name.
func (s *Selectors) Selecting(pools []v1.SriovNetworkPoolConfig, nodeLabels map[string]string) []*v1.SriovNetworkPoolConfig {
	var out []*v1.SriovNetworkPoolConfig
	for i := range pools {
		if s.selects(&pools[i], nodeLabels) {
			out = append(out, &pools[i])
		}
	}
	slices.SortFunc(out, func(a, b *v1.SriovNetworkPoolConfig) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (s *Selectors) selects(p *v1.SriovNetworkPoolConfig, nodeLabels map[string]string) bool {
	known, ok := s.read.Load(p.UID)
	is, _ := known.(selector)
	if !ok || is.generation != p.Generation || is.deleted != !p.DeletionTimestamp.IsZero() {
		read, err := plan.PoolSelector(p)
		if is = (selector{read, p.Generation, !p.DeletionTimestamp.IsZero()}); err != nil {
			is.Selector = nil
		}
		if p.Generation > 0 { // by an API server it is
			s.read.Store(p.UID, is)
		}
	}
	return is.Selector != nil && is.Matches(labels.Set(nodeLabels))
}
