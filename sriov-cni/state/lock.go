// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/sriovkit/sriovkit/sriov-cni/internal/file"
	"golang.org/x/sys/unix"
)

// lockTimeout is how long a call waits for another one on the same VF.
const lockTimeout = 60 * time.Second

// Lock takes a VF's lock. The kernel releases it when the process ends: the descriptor is
// never closed.
func (s Store) Lock(ctx context.Context, a libsriov.Address) error {
	path := filepath.Join(s.Dir, "pci", "vf_lock", a.String()+".lock")
	fd, err := file.OpenFD(path, unix.O_RDWR|unix.O_CREAT, 0o600)
	if errors.Is(err, unix.ENOENT) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			fd, err = file.OpenFD(path, unix.O_RDWR|unix.O_CREAT, 0o600)
		}
	}
	if err == nil {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	}
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		ctx, cancel := context.WithTimeoutCause(ctx, lockTimeout, errors.New("waited "+lockTimeout.String()))
		defer cancel()
		taken := make(chan error, 1)
		go func() { // until it has the lock, or the process ends
			var err error = unix.EINTR
			for errors.Is(err, unix.EINTR) {
				err = unix.Flock(fd, unix.LOCK_EX)
			}
			taken <- err
		}()
		select {
		case <-ctx.Done():
			return cnierr.Busy(fmt.Errorf("time out while waiting to acquire exclusive lock of VF %s: %w", a, context.Cause(ctx)),
				"another call works on this VF, perhaps its IPAM plugin hangs; look for processes named sriov")
		case err = <-taken:
		}
	}
	if err != nil {
		return cnierr.New(types.ErrIOFailure, fmt.Errorf("lock VF %s: %w", a, err), "")
	}
	return nil
}
