// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sriovkit/sriovkit/multus-shim/kube"
)

const (
	// askTime bounds the last question about the DaemonSet; a pod has 30 s to
	// end, by default.
	askTime = 5 * time.Second
	// watchPause is how long a watch that failed is left alone. Longer than the API server
	// needs to restart would miss a deletion; shorter would load it with every node's tries.
	watchPause = 5 * time.Second
)

// owner is the state of the DaemonSet whose pod this installer is, as last read from the API
// server.
type owner struct {
	o   *Options
	log *slog.Logger

	mu    sync.Mutex
	state kube.DaemonSetState // the last that was reported, 0 for none yet
}

// follow keeps the state current until ctx ends. A watch that is open reports the deletion even
// though account and role are deleted with the DaemonSet.
func (w *owner) follow(ctx context.Context) {
	namespace, name, _ := strings.Cut(w.o.DaemonSet, "/") // validated with the options
	for said := ""; ctx.Err() == nil; {
		begun := time.Now()
		err := w.ask(func(c *kube.Client) error { return c.WatchDaemonSet(ctx, namespace, name, w.set) })
		if ctx.Err() != nil || err == nil && time.Since(begun) > watchPause {
			continue // it had run its time
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			w.log.Warn("it is unknown whether the DaemonSet is deleted, everything would stay", "err", err)
		}
		timer := time.NewTimer(watchPause)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
}

func (w *owner) set(state kube.DaemonSetState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state = state
}

func (w *owner) known() kube.DaemonSetState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// deleted reports whether it is proven that the DaemonSet was deleted, so that no other
// installer comes after this one: the watch said so, or a DaemonSet that was there before is
// not found any more or has a deletionTimestamp. A refusal proves nothing, for a role binding
// can be away for a moment; nor does a name that was never found. Then everything stays: pods
// start with it in any case.
func (w *owner) deleted(ctx context.Context) bool {
	namespace, name, _ := strings.Cut(w.o.DaemonSet, "/")
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	known := w.known()
	var now kube.DaemonSetState
	err := w.ask(func(c *kube.Client) (err error) {
		now, err = c.DaemonSet(ctx, namespace, name)
		return err
	})
	switch {
	case err == nil:
		return now == kube.DaemonSetDeleting // it may have been made anew
	case errors.Is(err, kube.ErrNotFound) && known != 0, known == kube.DaemonSetDeleted, known == kube.DaemonSetDeleting:
		return true
	}
	w.log.Warn("not uninstalling: it is unknown whether the DaemonSet was deleted", "err", err)
	return false
}

// ask talks to the API server with the credentials that were installed.
func (w *owner) ask(question func(*kube.Client) error) error {
	credentials, err := kube.Load(filepath.Join(w.o.credentialsDir(), filepath.Base(w.o.HostKubeconfig)))
	if err != nil {
		return err
	}
	c := kube.New(credentials)
	defer c.Close()
	return question(c)
}
