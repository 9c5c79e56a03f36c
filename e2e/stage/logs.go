// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// LogDir returns a directory, made for this process, whose content outlives it:
// for the logs of something that failed. Directories of the same name that are
// two weeks old are removed.
func (c *Cache) LogDir(name string) (string, error) {
	parent := filepath.Join(c.Dir, "logs")
	dir := filepath.Join(parent, fmt.Sprintf("%s-%d", name, os.Getpid()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	old, err := filepath.Glob(filepath.Join(parent, name+"-*"))
	if err != nil {
		return "", err
	}
	for _, d := range old {
		info, err := os.Stat(d)
		if err == nil && time.Since(info.ModTime()) > unusedFor {
			err = os.RemoveAll(d)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) { // another process may remove it
			return "", err
		}
	}
	return dir, nil
}

// KeepLogs copies files to LogDir(name) and returns that directory.
func (c *Cache) KeepLogs(name string, files ...string) (string, error) {
	dir, err := c.LogDir(name)
	if err != nil {
		return "", err
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), text, 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}
