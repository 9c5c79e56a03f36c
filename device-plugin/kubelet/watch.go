// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// Dirs is kubelet's own directory, /var/lib/kubelet. Kubelet must see it under
// the same path.
type Dirs string

// Registry is where kubelet looks for sockets of plugins by itself.
func (d Dirs) Registry() string { return filepath.Join(string(d), "plugins_registry") }

// Plugins is where kubelet's registration socket is, and where the sockets of
// plugins go that register there.
func (d Dirs) Plugins() string { return filepath.Join(string(d), "device-plugins") }

// Socket is kubelet's registration socket.
func (d Dirs) Socket() string { return filepath.Join(d.Plugins(), "kubelet.sock") }

// PodResources is the socket of kubelet's pod-resources API.
func (d Dirs) PodResources() string { return filepath.Join(string(d), "pod-resources", "kubelet.sock") }

// Watcher notifies endpoints of events of single files in kubelet's directories. The
// directories may be removed and made again, as kubelet does when it restarts.
type Watcher struct {
	dirs   Dirs
	notify *fsnotify.Watcher

	mu   sync.Mutex
	subs map[chan struct{}][]string
}

// Watch subscribes to kubelet's directories. Run delivers.
func Watch(dirs Dirs) (*Watcher, error) {
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch kubelet's directories: %w", Inotify(err))
	}
	w := &Watcher{dirs: dirs, notify: n, subs: map[chan struct{}][]string{}}
	if err = n.Add(string(dirs)); err != nil {
		err = fmt.Errorf("watch kubelet's directory %s: %w; is -kubelet-dir right, and mounted?", dirs, Inotify(err))
	} else {
		err = w.follow()
	}
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return w, nil
}

// Inotify adds to an error of inotify(7) which limit of the node to raise.
func Inotify(err error) error {
	switch {
	case errors.Is(err, syscall.EMFILE):
		return fmt.Errorf("%w; raise the sysctl fs.inotify.max_user_instances", err)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w; raise the sysctl fs.inotify.max_user_watches", err)
	}
	return err
}

// follow watches those of the directories that exist.
func (w *Watcher) follow() error {
	for _, dir := range []string{w.dirs.Registry(), w.dirs.Plugins()} {
		if err := w.notify.Add(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("watch kubelet's directory: %w", Inotify(err))
		}
	}
	return nil
}

// Run delivers until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	defer w.notify.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.notify.Events:
			switch {
			case e.Op == fsnotify.Chmod:
			case e.Name == w.dirs.Registry() || e.Name == w.dirs.Plugins():
				if err := w.follow(); err != nil {
					return err
				}
				w.tell("") // what happened in it before the watch began is unknown
			default:
				w.tell(e.Name)
			}
		case err := <-w.notify.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch kubelet's directories: %w", err)
			}
			w.tell("")
		}
	}
}

// tell notifies those who wait for events of a path; with "" all.
func (w *Watcher) tell(path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch, paths := range w.subs {
		if path != "" && !slices.Contains(paths, path) {
			continue
		}
		select {
		case ch <- struct{}{}:
		default: // it has yet to look anyway
		}
	}
}

// subscribe returns a channel that gets a value after something happened to one
// of the paths. Several events may become one value. The caller ends the
// subscription.
func (w *Watcher) subscribe(paths ...string) (changed <-chan struct{}, end func()) {
	ch := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.subs[ch] = paths
	return ch, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.subs, ch)
	}
}
