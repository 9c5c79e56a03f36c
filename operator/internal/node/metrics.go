// SPDX-License-Identifier: Apache-2.0

package node

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// The daemon's own metrics; controller-runtime adds those of the controller and of Go.
var (
	syncs = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sriovkit_daemon_syncs_total",
		Help: "Looks at the node, by how they ended: Succeeded, Failed, or InProgress while a drain is waited for.",
	}, []string{"result"})
	applySeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "sriovkit_daemon_apply_duration_seconds",
		Help:    "How long it took to bring the node to its spec, when something had to be done.",
		Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 180},
	})
	lastSuccess = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sriovkit_daemon_last_success_timestamp_seconds",
		Help: "When the node was last seen to be as its spec says; 0 if never since the start.",
	})
	vfs = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sriovkit_daemon_vfs",
		Help: "VFs that the spec asks for, by resource and by whether they are offered to pods.",
	}, []string{"resource", "offered"})
	awaitingDrain = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sriovkit_daemon_vfs_awaiting_drain",
		Help: "VFs in use that the spec changes, and whose pods have to leave first.",
	})
)

func init() { metrics.Registry.MustRegister(syncs, applySeconds, lastSuccess, vfs, awaitingDrain) }

// countVFs sets the metric of VFs that the spec asks for, offered and not offered.
func countVFs(want v1.SriovNetworkNodeStateSpec, offered plan.Resources) {
	ready, wanted := map[string]int{}, map[string]int{}
	for _, r := range offered.List {
		for _, s := range r.Selectors {
			ready[r.Name] += len(s.PCIAddresses)
		}
	}
	for _, i := range want.Interfaces {
		for _, g := range i.VfGroups {
			if r, err := plan.ParseRange(g.VfRange); err == nil {
				wanted[g.ResourceName] += r.Last - r.First + 1
			}
		}
	}
	vfs.Reset()
	for resource, n := range wanted {
		vfs.WithLabelValues(resource, "true").Set(float64(ready[resource]))
		vfs.WithLabelValues(resource, "false").Set(float64(n - ready[resource]))
	}
}
