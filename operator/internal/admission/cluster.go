// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

// cluster reads what new objects are compared with. Lists are shared with the cache.
type cluster struct {
	client.Reader
	namespace string // of the operator
}

// node that takes part, as its daemon reported it.
type node struct {
	name   string
	labels map[string]string
	state  *v1.SriovNetworkNodeState // nil before its daemon's first report
}

// view of a cluster: all that warnings depend on.
type view struct {
	namespace  string
	configured bool   // there is a configuration, so nodes can take part
	nodes      []node // that take part
	policies   []*v1.SriovNetworkNodePolicy
}

func (c cluster) view(ctx context.Context) (view, error) {
	v := view{namespace: c.namespace}
	var policies v1.SriovNetworkNodePolicyList
	if err := c.List(ctx, &policies, client.InNamespace(c.namespace), client.UnsafeDisableDeepCopy); err != nil {
		return view{}, err
	}
	for i := range policies.Items {
		if policies.Items[i].DeletionTimestamp.IsZero() {
			v.policies = append(v.policies, &policies.Items[i])
		}
	}
	var cfg v1.SriovOperatorConfig
	err := c.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: v1.DefaultConfigName}, &cfg)
	if err != nil {
		return v, client.IgnoreNotFound(err)
	}
	v.configured = true
	v.nodes, err = c.nodes(ctx, &cfg.Spec)
	return v, err
}

// nodes that take part with this configuration.
func (c cluster) nodes(ctx context.Context, s *v1.SriovOperatorConfigSpec) ([]node, error) {
	list := env.NodeMetaList()
	if err := c.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	var states v1.SriovNetworkNodeStateList
	if err := c.List(ctx, &states, client.InNamespace(c.namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	reported := make(map[string]*v1.SriovNetworkNodeState, len(states.Items))
	for i := range states.Items {
		if s := &states.Items[i]; s.Status.SyncStatus != "" || len(s.Status.Interfaces) > 0 {
			reported[s.Name] = s
		}
	}
	var out []node
	for i := range list.Items {
		if n := &list.Items[i]; deploy.Selected(s, n.Labels) {
			out = append(out, node{n.Name, n.Labels, reported[n.Name]})
		}
	}
	return out, nil
}
