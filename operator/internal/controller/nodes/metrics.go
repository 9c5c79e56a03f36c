// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var nodeWrites = prometheus.NewCounter(prometheus.CounterOpts{
	Name: "sriovkit_operator_node_spec_writes_total",
	Help: "Patches of the spec or annotations of a SriovNetworkNodeState by the planner.",
})

func init() { metrics.Registry.MustRegister(nodeWrites) }
