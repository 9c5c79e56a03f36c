// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
	"golang.org/x/sys/unix"
)

// Server answers HTTP on one address, which a flag has named.
type Server struct {
	Flag, Address string
	Handler       *http.ServeMux
}

// Metrics answers a scrape.
func Metrics(registry *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4, // a scrape reads every PF's statistics
	})
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

// Run answers until ctx ends.
func (s Server) Run(ctx context.Context, log *slog.Logger) error {
	shared := net.ListenConfig{Control: share}
	listener, err := shared.Listen(ctx, "tcp", s.Address)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Flag, err)
	}
	server := &http.Server{
		Handler: s.Handler, ReadHeaderTimeout: headerTime, ReadTimeout: requestTime, WriteTimeout: answerTime,
		IdleTimeout: idleTime, MaxHeaderBytes: maxHeaderBytes,
	}
	log.Info("listening", "for", s.Flag, "address", listener.Addr().String())
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

// share lets two processes of one user listen at an address: in an update of the DRA driver an
// old and a new instance, and the device plugin beside a driver that is leaving. Either tells
// of the same node.
func share(_, _ string, c syscall.RawConn) error {
	var refused error
	err := c.Control(func(fd uintptr) {
		refused = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	return errors.Join(err, refused)
}

// Loopback puts 127.0.0.1 before a port alone. To listen on the network takes an address:
// 0.0.0.0:9809, or better one of the node.
func Loopback(address *string) error {
	if *address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(*address)
	if err != nil {
		return err
	}
	if host == "" {
		*address = net.JoinHostPort("127.0.0.1", port)
	}
	return nil
}
