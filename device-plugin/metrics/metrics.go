// SPDX-License-Identifier: Apache-2.0

// Package metrics counts what the plugin does. All of it lives in a registry of
// its own; nothing is global.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Metrics are the plugin's own. Those of the VFs are read at each scrape, see
// [VFs].
type Metrics struct {
	Registry *prometheus.Registry

	Devices       *prometheus.GaugeVec   // resource, state: healthy, unhealthy
	Watching      *prometheus.GaugeVec   // resource: 1 if kubelet has a stream open, else 0
	Registrations *prometheus.CounterVec // resource, result: ok, error, refused
	Allocations   *prometheus.CounterVec // resource, result: ok, error
	AllocateTime  prometheus.Histogram
	Rescans       *prometheus.CounterVec // cause: start, device, link, route, config, periodic
	ReadErrors    prometheus.Gauge       // devices that the last look could not read
	Reloads       *prometheus.CounterVec // result: ok, error
	ConfigGood    prometheus.Gauge       // 1 unless the file on disk was refused
	CDIErrors     prometheus.Gauge       // pools whose CDI specification cannot be written
}

// New makes the metrics and their registry.
func New(version string) *Metrics {
	m := &Metrics{
		Registry: prometheus.NewRegistry(),
		Devices: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sriovdp_devices", Help: "Devices of a resource pool by state.",
		}, []string{"resource", "state"}),
		Watching: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sriovdp_kubelet_watching", Help: "Streams on which kubelet watches the resource pool: 1 or 0.",
		}, []string{"resource"}),
		Registrations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sriovdp_registrations_total", Help: "Registrations with kubelet by result.",
		}, []string{"resource", "result"}),
		Allocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sriovdp_allocations_total", Help: "Containers that were given devices, by result.",
		}, []string{"resource", "result"}),
		AllocateTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sriovdp_allocate_seconds", Help: "Time to answer an Allocate call.",
			Buckets: []float64{.0001, .0003, .001, .003, .01, .03, .1, 1},
		}),
		Rescans: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sriovdp_rescans_total", Help: "Looks at the host's devices by cause.",
		}, []string{"cause"}),
		ReadErrors: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sriovdp_unreadable_devices", Help: "Devices that the last look at the host could not read.",
		}),
		Reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sriovdp_config_reloads_total", Help: "Changes of the configuration file by result.",
		}, []string{"result"}),
		ConfigGood: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sriovdp_config_good", Help: "0 while the configuration file on disk is refused and an older one is in force.",
		}),
	}
	m.CDIErrors = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sriovdp_cdi_unwritten", Help: "Pools whose devices are unhealthy because their CDI specification cannot be written.",
	})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sriovdp_build_info", Help: "Version of the running program.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	for _, result := range []string{"ok", "error"} {
		m.Reloads.WithLabelValues(result)
	}
	for _, cause := range []string{"start", "config", "device", "link", "route", "periodic"} {
		m.Rescans.WithLabelValues(cause)
	}
	m.Registry.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.Registry.MustRegister(m.Devices, m.Watching, m.Registrations, m.Allocations, m.AllocateTime,
		m.Rescans, m.ReadErrors, m.Reloads, m.ConfigGood, m.CDIErrors, build)
	return m
}

// Expect makes the series of a pool, so that an alert can tell "never" from "not yet".
func (m *Metrics) Expect(resource string) {
	for _, state := range []string{"healthy", "unhealthy"} {
		m.Devices.WithLabelValues(resource, state)
	}
	m.Watching.WithLabelValues(resource)
	for _, result := range []string{"ok", "error", "refused"} {
		m.Registrations.WithLabelValues(resource, result)
	}
	for _, result := range []string{"ok", "error"} {
		m.Allocations.WithLabelValues(resource, result)
	}
}

// Forget removes the series of a pool that is no more.
func (m *Metrics) Forget(resource string) {
	for _, v := range []*prometheus.MetricVec{
		m.Devices.MetricVec, m.Watching.MetricVec, m.Registrations.MetricVec, m.Allocations.MetricVec,
	} {
		v.DeletePartialMatch(prometheus.Labels{"resource": resource})
	}
}
