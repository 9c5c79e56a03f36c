// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// writes counts what this process changes in the cluster, beside the requests by
// method that client-go counts.
var writes = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "sriovkit_api_writes_total",
	Help: "Writing requests to the API server, by resource and subresource.",
}, []string{"resource"})

func init() { metrics.Registry.MustRegister(writes) }

// countWrites wraps a transport to the API server.
func countWrites(next http.RoundTripper) http.RoundTripper { return writeCounter{next} }

type writeCounter struct{ next http.RoundTripper }

func (c writeCounter) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet {
		writes.WithLabelValues(resource(r.URL.Path)).Inc()
	}
	return c.next.RoundTrip(r)
}

// resource of a request's path, /api/V/... or /apis/G/V/..., with its subresource:
// "nodes", "sriovnetworknodestates/status".
func resource(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	skip := 2
	if parts[0] == "apis" {
		skip = 3
	}
	if len(parts) > skip+2 && parts[skip] == "namespaces" {
		skip += 2
	}
	switch {
	case len(parts) > skip+2:
		return parts[skip] + "/" + parts[skip+2]
	case len(parts) > skip:
		return parts[skip]
	}
	return "other"
}
