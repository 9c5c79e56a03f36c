// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// ErrLocked: another command works on the container.
var ErrLocked = errors.New("another command works on the container")

// lockPoll is how often a held lock is tried again; flock(2) cannot be awaited
// together with a context.
const lockPoll = 5 * time.Millisecond

// Lock holds one container until release is called. It waits until ctx ends;
// with an ended ctx it tries once. The lock file goes with the last holder.
func (s Store) Lock(ctx context.Context, containerID string) (release func(), err error) {
	path := filepath.Join(s.Dir, "locks", containerID)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	for {
		lock := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDONLY|syscall.O_NONBLOCK)) // a pipe of that name keeps nobody waiting
		ok, err := lock.TryLock()
		if err == nil && !ok {
			ok, err = lock.TryLockContext(ctx, lockPoll)
		}
		switch {
		case ctx.Err() != nil && !ok:
			return nil, fmt.Errorf("%w: %s", ErrLocked, containerID)
		case err != nil:
			return nil, err
		}
		// The last holder may have removed the file between the open and the lock.
		current, err := sameFile(lock, path)
		if err != nil {
			return nil, errors.Join(err, lock.Close())
		}
		if current {
			return func() { _, _ = os.Remove(path), lock.Close() }, nil
		}
		if err := lock.Close(); err != nil {
			return nil, err
		}
	}
}

func sameFile(lock *flock.Flock, path string) (bool, error) {
	held, err := lock.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(held, named), err
}
