// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"

	"github.com/sriovkit/sriovkit/device-plugin/command"
	"github.com/sriovkit/sriovkit/device-plugin/metrics"
	"github.com/sriovkit/sriovkit/device-plugin/plugin"
)

// servers are those that the flags ask for: one for metrics and another one for health, so that
// kubelet's probe is answered, and the process not restarted, while many clients read metrics.
func servers(f *flags, m *metrics.Metrics, p *plugin.Plugin) []command.Server {
	var list []command.Server
	health := func(mux *http.ServeMux) {
		mux.Handle("GET /healthz", answer(p.Healthy))
		mux.Handle("GET /readyz", answer(p.Ready))
	}
	if f.healthAddress != "" {
		mux := http.NewServeMux()
		health(mux)
		list = append(list, command.Server{Flag: "-health-address", Address: f.healthAddress, Handler: mux})
	}
	if f.metricsAddress != "" {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", command.Metrics(m.Registry))
		if f.healthAddress == "" {
			health(mux)
		}
		list = append(list, command.Server{Flag: "-metrics-address", Address: f.metricsAddress, Handler: mux})
	}
	return list
}

// answer is 200, or 503 with the reason.
func answer(state func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := state(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
}
