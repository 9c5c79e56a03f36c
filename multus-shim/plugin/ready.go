// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/fsnotify/fsnotify"
)

// waitReady waits for the file with which the default network says that it is
// ready. It watches the nearest directory that exists on the way to the file.
func (c *call) waitReady(ctx context.Context) error {
	path := c.conf.ReadinessFile
	if path == "" || exists(path) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.conf.Timeout.Readiness)
	defer cancel()
	err := await(ctx, path)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("readinessindicatorfile %s is not there after %s: the default network is not ready", path, c.conf.Timeout.Readiness)
	}
	return coded(types.ErrTryAgainLater, err)
}

func await(ctx context.Context, path string) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer watcher.Close()
	for !exists(path) {
		// Subscribe, then look again: an entry created in between is not missed.
		dir := existing(filepath.Dir(path))
		if err := watcher.Add(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if exists(path) || existing(filepath.Dir(path)) != dir {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-watcher.Events:
		case err := <-watcher.Errors:
			return err
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// existing is the nearest ancestor of dir, or dir itself, that exists.
func existing(dir string) string {
	for dir != "/" && !exists(dir) {
		dir = filepath.Dir(dir)
	}
	return dir
}
