// SPDX-License-Identifier: Apache-2.0

// Package stage keeps the results of slow builds outside the checkout: a kernel,
// a root file system, a control plane. A stage is a directory named after a hash
// of everything that went into it, built once, never changed, shared by all
// processes of a user.
//
// A build happens in a temporary directory that is renamed when it is complete,
// under a lock (flock(2)), so an interrupted build leaves nothing that looks
// finished and two processes never build the same thing twice.
package stage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// unusedFor is how long an outdated result is kept after its last use. A branch
// switch back and forth should not rebuild anything.
const unusedFor = 14 * 24 * time.Hour

// buildRoom is more than any stage takes.
const buildRoom = 1e9

// partial ends the name of a directory that is not finished.
const partial = ".partial"

// Cache is a directory of finished stages.
type Cache struct {
	Dir string    // absolute
	Log io.Writer // progress, one line each; never nil
}

// Open returns the cache in $SRIOVKIT_CACHE or, if that is empty, in the user's
// cache directory, and creates it.
func Open(log io.Writer) (*Cache, error) {
	dir := os.Getenv("SRIOVKIT_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("%w; set SRIOVKIT_CACHE to a directory with 4 GB of space", err)
		}
		dir = filepath.Join(base, "sriovkit")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "locks"), 0o755); err != nil {
		return nil, fmt.Errorf("create cache: %w; set SRIOVKIT_CACHE to a writable directory", err)
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return nil, fmt.Errorf("cache %s: %w; set SRIOVKIT_CACHE to a writable directory", dir, err)
	}
	return &Cache{Dir: dir, Log: log}, nil
}

// Stage is one build.
type Stage struct {
	Name    string        // of the directory in the cache and in progress lines
	Inputs  []string      // whatever must lead to a new build when it changes, by custom first the recipe's number
	Timeout time.Duration // of the build; 0 is 15 minutes
	Build   func(context.Context, *Build) error
}

func (s Stage) key() string {
	h := sha256.New()
	for _, in := range s.Inputs {
		fmt.Fprintf(h, "%d:%s\n", len(in), in)
	}
	return s.Name + "-" + hex.EncodeToString(h.Sum(nil))[:16]
}

// Get returns the directory that holds the result of s and builds it if needed.
// The directory is shared: treat it as read only.
func (c *Cache) Get(ctx context.Context, s Stage) (string, error) {
	dir := filepath.Join(c.Dir, s.key())
	if ready(dir) {
		return dir, nil
	}
	unlock, err := c.Lock(ctx, s.key())
	if err != nil {
		return "", fmt.Errorf("build %s: %w", s.Name, err)
	}
	defer unlock()
	if ready(dir) { // built by the process that had the lock
		return dir, nil
	}
	if err := c.build(ctx, s, dir); err != nil {
		return "", fmt.Errorf("build %s: %w", s.Name, err)
	}
	return dir, c.evict(s, dir)
}

// Has reports whether the result of s is there already.
func (c *Cache) Has(s Stage) bool { return ready(filepath.Join(c.Dir, s.key())) }

// ready also marks dir as used, for evict.
func ready(dir string) bool {
	now := time.Now()
	return os.Chtimes(dir, now, now) == nil
}

// Lock serializes work on a part of the cache between processes.
func (c *Cache) Lock(ctx context.Context, name string) (unlock func(), err error) {
	l := flock.New(filepath.Join(c.Dir, "locks", name))
	got, err := l.TryLock()
	if err != nil {
		return nil, err
	}
	if !got {
		fmt.Fprintf(c.Log, "%s: another process works on it, waiting\n", name)
		if _, err := l.TryLockContext(ctx, 200*time.Millisecond); err != nil {
			return nil, fmt.Errorf("wait for the process that has %s: %w", l.Path(), err)
		}
	}
	return func() { l.Close() }, nil
}

func (c *Cache) build(ctx context.Context, s Stage, dir string) (err error) {
	if s.Timeout == 0 {
		s.Timeout = 15 * time.Minute
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.Timeout, fmt.Errorf("took longer than %s", s.Timeout))
	defer cancel()

	if err := c.Room(buildRoom); err != nil {
		return err
	}
	tmp := dir + partial // used by nobody else while the lock is held
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	b := &Build{Dir: tmp}
	if err := os.Mkdir(b.goTemp(), 0o755); err != nil {
		return err
	}
	logPath := filepath.Join(c.Dir, "locks", s.key()+".log")
	log, err := os.Create(logPath)
	if err != nil {
		return err
	}
	defer log.Close()

	b.log, b.progress = log, newProgress(c.Log, s.Name)
	err = errors.Join(s.Build(ctx, b), os.RemoveAll(b.goTemp()))
	b.progress.stop(err)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = errors.Join(cause, err)
		}
		return errors.Join(fmt.Errorf("%w\nlog: %s", err, logPath), os.RemoveAll(tmp))
	}
	return os.Rename(tmp, dir)
}

// Room is an error if less than so many bytes can be written into the cache.
func (c *Cache) Room(bytes float64) error { return Room(c.Dir, bytes) }

// Room is an error if less than so many bytes can be written into a directory, which may be
// one that is yet to be made.
func Room(dir string, bytes float64) error {
	var fs unix.Statfs_t
	for at := dir; ; at = filepath.Dir(at) {
		err := unix.Statfs(at, &fs)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.ENOENT) || at == filepath.Dir(at) {
			return &os.PathError{Op: "statfs", Path: at, Err: err}
		}
	}
	if free := float64(fs.Bavail) * float64(fs.Bsize); free < bytes {
		return fmt.Errorf("%.1f GB free at %s, want %.0f: make room, or set SRIOVKIT_CACHE, GOCACHE and GOMODCACHE to directories elsewhere",
			free/1e9, dir, bytes/1e9)
	}
	return nil
}

// evict removes results of s for other inputs that nobody used for a while, and what
// killed builds left of such.
func (c *Cache) evict(s Stage, keep string) error {
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		old := filepath.Join(c.Dir, e.Name())
		hash, ok := strings.CutPrefix(e.Name(), s.Name+"-")
		if !ok || len(strings.TrimSuffix(hash, partial)) != 16 || old == keep {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // another process removes it
		}
		if err != nil {
			return err
		}
		if time.Since(info.ModTime()) < unusedFor {
			continue
		}
		if err := os.RemoveAll(old); err != nil {
			return err
		}
	}
	return nil
}
