package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/sriovkit/sriovkit/libsriov"
	"golang.org/x/sys/unix"
)

// lockRetry is how often a taken lock is tried again. It is taken for as long
// as another call works on the same VF, which seldom happens.
const lockRetry = 5 * time.Millisecond

// lock takes a VF's lock, which the end of the process releases: the descriptor
// is nobody's to close.
func (s store) lock(ctx context.Context, a libsriov.Address) error {
	path := filepath.Join(s.dir, "pci", "vf_lock", a.String()+".lock")
	fd, err := openFD(path, unix.O_RDWR|unix.O_CREAT, 0o600)
	if errors.Is(err, unix.ENOENT) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			fd, err = openFD(path, unix.O_RDWR|unix.O_CREAT, 0o600)
		}
	}
	for err == nil {
		switch err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			continue
		}
		select {
		case <-ctx.Done():
			return &failure{Code: types.ErrTryAgainLater,
				Err:  fmt.Errorf("time out while waiting to acquire exclusive lock of VF %s: %w", a, context.Cause(ctx)),
				Hint: "another call works on this VF, perhaps its IPAM plugin hangs; look for processes named sriov"}
		case <-time.After(lockRetry):
			err = nil
		}
	}
	return &failure{Code: types.ErrIOFailure, Err: fmt.Errorf("lock VF %s: %w", a, err)}
}
