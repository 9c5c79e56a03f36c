// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked: another command works on the container.
var ErrLocked = errors.New("another command works on the container")

// lockPoll is how often a held lock is tried again; fcntl(2) cannot be awaited
// together with a context.
const lockPoll = 5 * time.Millisecond

// Lock holds one container until release is called. It waits until ctx ends;
// with an ended ctx it tries once. All containers share a file, of which each has a byte by
// its hash: a file of their own would have to be made and removed by every command. The
// lock ends with the process, not with those that it starts.
func (s Store) Lock(ctx context.Context, containerID string) (release func(), err error) {
	path := filepath.Join(s.Dir, "locks", "containers")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NONBLOCK, 0o600) // a pipe of that name keeps nobody waiting
	if err != nil {
		return nil, err
	}
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(containerID)) // never fails
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: int64(hash.Sum64() >> 1), Len: 1}
	for {
		err := unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &lock)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("%w: %s", ErrLocked, containerID), file.Close())
		case <-time.After(lockPoll):
		}
	}
}
