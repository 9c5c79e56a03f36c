// SPDX-License-Identifier: Apache-2.0

// Package kubelet offers resource pools to kubelet: the device plugin API
// v1beta1 (https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/)
// on one socket a pool, registered in either of the two ways that kubelet
// knows, and again whenever kubelet, the socket or the directory was replaced.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/metrics"
	"google.golang.org/grpc"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// Endpoint is one pool's service. Publish may be called at any time, also
// before Run. Until then kubelet knows the resource and waits for its devices.
type Endpoint struct {
	resource config.Resource
	dirs     Dirs
	watcher  *Watcher
	metrics  *metrics.Metrics
	log      *slog.Logger
	list     *list

	mu      sync.Mutex
	streams int // that kubelet has open
}

// NewEndpoint makes the service of a resource of which nothing is known yet.
func NewEndpoint(r config.Resource, dirs Dirs, w *Watcher, m *metrics.Metrics, log *slog.Logger) *Endpoint {
	m.Expect(r.String())
	return &Endpoint{
		resource: r, dirs: dirs, watcher: w, metrics: m, list: newList(),
		log: log.With("resource", r.String()),
	}
}

// Resource is the name of the pool.
func (e *Endpoint) Resource() config.Resource { return e.resource }

// Watched reports whether kubelet has a stream open.
func (e *Endpoint) Watched() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.streams > 0
}

// stream counts a stream that kubelet opens or closes.
func (e *Endpoint) stream(delta int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.streams += delta
	e.metrics.Watching.WithLabelValues(e.resource.String()).Set(float64(min(1, e.streams)))
}

// Publish replaces the pool. Streams get the device list if it is another one.
func (e *Endpoint) Publish(p Pool) { e.list.publish(p) }

// Times between attempts after a failure; each failure doubles the time.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// withdrawTime bounds how long kubelet may take to read the last, empty list, and how long a
// connection may say nothing at first, which an end waits for.
const withdrawTime = 3 * time.Second

// Run serves until ctx ends, and then withdraws the devices: kubelet is told
// that there are none left before the socket goes away. Whatever fails in
// between is logged, counted and tried again, each time after a longer pause, which only a
// new kubelet cuts short: what this process does to its own socket does not.
func (e *Endpoint) Run(ctx context.Context) {
	changed, end := e.watcher.subscribe(e.dirs.Registry(), e.dirs.Plugins(), e.dirs.Socket(),
		socketPath(e.dirs.Registry(), e.resource), socketPath(e.dirs.Plugins(), e.resource))
	defer end()
	kubelet, endKubelet := e.watcher.subscribe(e.dirs.Socket())
	defer endKubelet()
	retry := firstRetry
	for ctx.Err() == nil {
		began := time.Now()
		err := e.session(ctx, changed)
		if err == nil {
			continue
		}
		if time.Since(began) > lastRetry {
			retry = firstRetry
		}
		if errors.Is(err, errReplaced) {
			e.yield(ctx, changed)
			continue
		}
		e.log.Error("serve pool, trying again", "err", err, "in", retry)
		select { // of an earlier time
		case <-kubelet:
		default:
		}
		timer := time.NewTimer(retry)
		select {
		case <-ctx.Done():
		case <-kubelet:
		case <-timer.C:
		}
		timer.Stop()
		retry = min(2*retry, lastRetry)
	}
}

// errReplaced: another process serves the resource now.
var errReplaced = errors.New("another process has put its socket in the place of this one's")

// yield waits until the process that took the socket over is gone: of two copies on a node
// the newer one serves, as in a rolling update. It is asked in between because nobody tells
// when a process dies and leaves its socket.
func (e *Endpoint) yield(ctx context.Context, changed <-chan struct{}) {
	e.log.Warn("another process serves this resource; waiting until it is gone")
	ticker := time.NewTicker(lastRetry)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-ticker.C:
		}
		if dir, _ := e.dirs.mode(); !isServed(socketPath(dir, e.resource)) {
			return
		}
	}
}

// session serves on one socket, until that has to be another one (nil), or
// something failed.
func (e *Endpoint) session(ctx context.Context, changed <-chan struct{}) error {
	dir, watched := e.dirs.mode()
	sock, err := listen(socketPath(dir, e.resource))
	if err != nil {
		return err
	}
	s := &service{Endpoint: e, path: sock.path, refused: make(chan error, 1)}
	server := grpc.NewServer(grpc.ReadBufferSize(4<<10), grpc.WriteBufferSize(4<<10), grpc.ConnectionTimeout(withdrawTime))
	pluginapi.RegisterDevicePluginServer(server, s)
	registerapi.RegisterRegistrationServer(server, s)
	served := make(chan error, 1)
	go func() {
		served <- server.Serve(sock.listener)
		close(served)
	}()
	defer func() { // in this order: no stream, no goroutine, no socket
		if ctx.Err() != nil { // whatever else came at the same moment
			e.withdraw(server)
		}
		server.Stop()
		for range served {
		}
		sock.remove()
	}()

	r := registrar{endpoint: e, active: !watched, path: sock.path}
	defer r.stop()
	r.attempt(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.refused:
			return err
		case err := <-served:
			return fmt.Errorf("gRPC server ended: %w", err)
		case <-r.due():
			r.retry(ctx)
		case <-changed:
			if now, _ := e.dirs.mode(); now != dir || !sock.inPlace() {
				if now == dir && isServed(sock.path) {
					return errReplaced
				}
				e.log.Info("socket is gone or must move, serving anew", "path", sock.path)
				return nil
			}
			r.attempt(ctx)
		}
	}
}

// withdraw tells kubelet that there are no devices, and waits until it has read
// so. Streams send the empty list and end; GracefulStop then sends a ping, which kubelet
// acknowledges after all that came before it, and closes.
func (e *Endpoint) withdraw(server *grpc.Server) {
	e.list.end()
	done := make(chan struct{})
	go func() {
		e.list.streams.Wait()
		server.GracefulStop()
		close(done)
	}()
	timer := time.NewTimer(withdrawTime)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		e.log.Warn("kubelet has not read the last list", "in", withdrawTime)
		server.Stop() // ends streams and GracefulStop, too
		<-done
	}
}

// errRefused: kubelet did not want the registration.
var errRefused = errors.New("kubelet refused the registration")
