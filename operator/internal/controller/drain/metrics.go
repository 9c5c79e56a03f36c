// SPDX-License-Identifier: Apache-2.0

package drain

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var drains = prometheus.NewCounter(prometheus.CounterOpts{
	Name: "sriovkit_operator_drains_total",
	Help: "Drains of a node that were begun.",
})

func init() { metrics.Registry.MustRegister(drains) }
