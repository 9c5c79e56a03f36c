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
)

// serveHTTP offers metrics and health until ctx ends.
func serveHTTP(ctx context.Context, address string, m *metrics.Metrics, p *plugin.Plugin, log *slog.Logger) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("-metrics-address: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.Registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4, // a scrape reads every PF's statistics
	}))
	mux.Handle("GET /healthz", answer(p.Healthy))
	mux.Handle("GET /readyz", answer(p.Ready))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	log.Info("serving metrics", "address", listener.Addr().String())
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = server.Close() // scrapers try again
		close(done)
	})
	err = server.Serve(listener)
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
