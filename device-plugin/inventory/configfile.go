// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/internal/regular"
	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
)

// LoadConfig reads and parses a configuration, which may come through a pipe. Errors begin with
// its path.
func LoadConfig(path, defaultPrefix string) (config.Config, error) {
	data, err := os.ReadFile(path)
	return (&contents{data, err}).parse(path, defaultPrefix)
}

// maxConfig bounds the file that is watched, bytes. A ConfigMap has 1 MiB.
const maxConfig = 16 << 20

// inFile puts the path before each of the joined errors, as compilers do.
func inFile(path string, err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return fmt.Errorf("%s:%w", path, err)
	}
	var errs []error
	for _, e := range joined.Unwrap() {
		errs = append(errs, fmt.Errorf("%s:%w", path, e))
	}
	return errors.Join(errs...)
}

// settleTime lets a program that writes the file in several steps finish.
const settleTime = 10 * time.Millisecond

// rereadTime is when a file that could not be read is tried again: no event says that the
// reason, such as a lack of file descriptors, is over.
const rereadTime = time.Second

// configFile watches a file for new contents, however they get there: written
// in place, renamed over, or, as kubelet updates ConfigMap volumes, by a change
// of a symbolic link on the way.
type configFile struct {
	path   string
	last   atomic.Pointer[contents]
	notify *fsnotify.Watcher
}

// contents is what the file says, or why it says nothing.
type contents struct {
	data []byte
	err  error
}

func read(path string) *contents {
	data, err := regular.Read(path, maxConfig)
	return &contents{data, err} // an error is an answer, too
}

func (c *contents) same(other *contents) bool {
	return fmt.Sprint(c.err) == fmt.Sprint(other.err) && bytes.Equal(c.data, other.data)
}

func (c *contents) parse(path, defaultPrefix string) (config.Config, error) {
	if c.err != nil {
		return config.Config{}, fmt.Errorf("configuration: %w", c.err)
	}
	cfg, err := config.Parse(c.data, defaultPrefix)
	if err != nil {
		return config.Config{}, inFile(path, err)
	}
	return cfg, nil
}

// inForce has the contents that the pools in force come from, or that were refused for them.
type inForce struct {
	mu      sync.Mutex
	last    *contents
	changed chan struct{} // closed when last changes
}

func (f *inForce) set(c *contents) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = c
	if f.changed != nil {
		close(f.changed)
	}
	f.changed = make(chan struct{})
}

func (f *inForce) get() (*contents, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.last, f.changed
}

// ErrBehind: the configuration file has changed, and the pools do not follow it yet.
var ErrBehind = errors.New("the configuration has just changed and is not in force yet")

// Settled returns once the pools are those of the configuration file as it is now: whoever
// withdraws a device writes the file, and gives nothing away that was withdrawn before the
// call. It fails with ErrBehind if ctx ends first.
func (inv *Inventory) Settled(ctx context.Context) error {
	for {
		is, changed := inv.inForce.get()
		if is != nil && read(inv.opts.ConfigFile).same(is) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ErrBehind
		}
	}
}

func watchConfig(path string) (*configFile, error) {
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch configuration: %w", kubelet.Inotify(err))
	}
	c := &configFile{path: path, notify: n}
	// The directory, not the file: a watch on the file ends with its inode.
	if err := n.Add(filepath.Dir(path)); err != nil {
		return nil, errors.Join(fmt.Errorf("watch configuration: %w", kubelet.Inotify(err)), n.Close())
	}
	c.follow()
	c.last.Store(read(path))
	return c, nil
}

// follow also watches where links lead to now.
func (c *configFile) follow() {
	if target, err := filepath.EvalSymlinks(c.path); err == nil {
		_ = c.notify.Add(filepath.Dir(target)) // gone again: the next event comes here anyway
	}
}

// run sends on changed when the contents are others, or cannot be read any more, until ctx
// ends.
func (c *configFile) run(ctx context.Context, changed chan<- struct{}) error {
	defer c.notify.Close()
	settle := time.NewTimer(0)
	if !settle.Stop() {
		<-settle.C
	}
	defer settle.Stop()
	if c.last.Load().err != nil {
		settle.Reset(rereadTime)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-c.notify.Events:
			_ = e // also a change of permissions
			settle.Reset(settleTime)
		case err := <-c.notify.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch configuration: %w", err)
			}
			settle.Reset(settleTime)
		case <-settle.C:
			c.follow()
			now := read(c.path)
			if now.err != nil {
				settle.Reset(rereadTime)
			}
			if now.same(c.last.Load()) {
				continue
			}
			c.last.Store(now)
			select {
			case changed <- struct{}{}:
			case <-ctx.Done():
			}
		}
	}
}
