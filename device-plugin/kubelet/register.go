// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// registerTime bounds one call of kubelet's Register, which dials back.
const registerTime = 5 * time.Second

// registrar tells kubelet of a socket through kubelet.sock, once for each
// kubelet that comes up.
type registrar struct {
	endpoint *Endpoint
	active   bool   // false where kubelet finds sockets by itself
	path     string // of the endpoint's socket

	known  identity // of the kubelet.sock that took the registration
	failed identity // of the one that did not; it is asked again when the timer says so
	wait   time.Duration
	timer  *time.Timer // nil if no attempt is due by time
}

// identity differs between a socket file and the next one of its name, which may get the same
// inode number.
type identity struct {
	inode uint64
	made  syscall.Timespec
}

func identify(path string) (identity, error) {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return identity{}, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return identity{inode: st.Ino, made: st.Ctim}, nil
}

// attempt registers if there is a kubelet that does not know the endpoint yet.
func (r *registrar) attempt(ctx context.Context) {
	if !r.active {
		return
	}
	e := r.endpoint
	now, err := identify(e.dirs.Socket())
	if err == nil && now == r.failed && r.timer != nil {
		return
	}
	r.stop()
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && now == r.known:
		return // the watcher tells when that changes
	case err == nil:
		err = r.register(ctx)
	}
	if err != nil {
		e.metrics.Registrations.WithLabelValues(e.resource.String(), "error").Inc()
		r.wait = min(max(2*r.wait, firstRetry), lastRetry)
		r.timer, r.failed = time.NewTimer(r.wait), now
		e.log.Warn("register with kubelet, trying again", "err", err, "in", r.wait)
		return
	}
	e.metrics.Registrations.WithLabelValues(e.resource.String(), "ok").Inc()
	e.log.Info("registered with kubelet", "socket", r.path)
	r.known, r.failed, r.wait = now, identity{}, 0
}

// retry makes the attempt that is due.
func (r *registrar) retry(ctx context.Context) {
	r.stop()
	r.attempt(ctx)
}

// due fires when the next attempt should be made; never if none is.
func (r *registrar) due() <-chan time.Time {
	if r.timer == nil {
		return nil
	}
	return r.timer.C
}

func (r *registrar) stop() {
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
}

func (r *registrar) register(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, registerTime)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+r.endpoint.dirs.Socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = pluginapi.NewRegistrationClient(conn).Register(ctx, &pluginapi.RegisterRequest{
		Version:      pluginapi.Version,
		Endpoint:     filepath.Base(r.path),
		ResourceName: r.endpoint.resource.String(),
		Options:      options(),
	})
	return err
}

func options() *pluginapi.DevicePluginOptions {
	return &pluginapi.DevicePluginOptions{GetPreferredAllocationAvailable: true}
}
