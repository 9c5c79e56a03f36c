// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sriovkit/sriovkit/device-plugin/metrics"
	"github.com/sriovkit/sriovkit/device-plugin/plugin"
	"golang.org/x/net/netutil"
)

// server answers HTTP on one address.
type server struct {
	flag, address string
	handler       *http.ServeMux
}

// servers are those that the flags ask for: one for metrics, and one for health, so that
// whoever keeps the first busy does not make kubelet restart the process.
func servers(f *flags, m *metrics.Metrics, p *plugin.Plugin) []server {
	var list []server
	health := func(mux *http.ServeMux) {
		mux.Handle("GET /healthz", answer(p.Healthy))
		mux.Handle("GET /readyz", answer(p.Ready))
	}
	if f.healthAddress != "" {
		mux := http.NewServeMux()
		health(mux)
		list = append(list, server{"-health-address", f.healthAddress, mux})
	}
	if f.metricsAddress != "" {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", promhttp.HandlerFor(m.Registry, promhttp.HandlerOpts{
			ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4, // a scrape reads every PF's statistics
		}))
		if f.healthAddress == "" {
			health(mux)
		}
		list = append(list, server{"-metrics-address", f.metricsAddress, mux})
	}
	return list
}

// Limits of a server. Each connection costs some 20 KiB; what is beyond waits in the kernel.
const (
	maxConnections = 32
	maxHeaderBytes = 16 << 10
	headerTime     = 5 * time.Second
	requestTime    = 10 * time.Second
	answerTime     = 30 * time.Second // a scrape of a PF whose firmware is slow
	idleTime       = 30 * time.Second
)

// run answers until ctx ends.
func (s server) run(ctx context.Context, log *slog.Logger) error {
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return fmt.Errorf("%s: %w", s.flag, err)
	}
	server := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: headerTime, ReadTimeout: requestTime, WriteTimeout: answerTime,
		IdleTimeout: idleTime, MaxHeaderBytes: maxHeaderBytes,
	}
	log.Info("listening", "for", s.flag, "address", listener.Addr().String())
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = server.Close() // scrapers try again
		close(done)
	})
	err = server.Serve(netutil.LimitListener(listener, maxConnections))
	if !stop() {
		<-done
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
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
