package controller

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Beside what controller-runtime counts: queues, reconciles, requests.
var (
	nodeWrites = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sriovkit_operator_node_spec_writes_total",
		Help: "Patches of the spec or annotations of a SriovNetworkNodeState by the planner.",
	})
	drains = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sriovkit_operator_drains_total",
		Help: "Drains of a node that were begun.",
	})
)
