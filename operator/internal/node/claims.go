// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"
)

// claims reads the records that this project's DRA driver (sriovdra) keeps, one file for each
// ResourceClaim. A VF in a record is in use, whatever the kubelet lists: the record is written
// before the driver changes the VF and removed after the driver has restored it.
type claims struct{ dir string } // the driver's plugin directory; "" if there is none

// recordVersion is the version of the records that is understood.
const recordVersion = 1

// maxRecord bounds what is read of a record, bytes: a claim has at most 32 devices.
const maxRecord = 1 << 20

// claimRecord is what is read of a file.
type claimRecord struct {
	Version              int
	UID, Namespace, Name string
	Pod                  struct{ Name string }
	Requests             []struct {
		AdminAccess bool
		Devices     []struct{ ID, Bound string }
	}
}

// claimedVF is a VF that is allocated to a claim.
type claimedVF struct {
	pod   string // namespace/name
	bound bool   // to a driver that the claim asked for, until the claim ends
}

// adminDevice is a device that a claim has admin access to, which does not make it in use
// (https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/#admin-access).
type adminDevice struct{ claim, device string }

// read lists the VFs of claims by PCI address, and the devices with admin access. A record that
// cannot be read is an error, for it may be about any VF.
func (c claims) read() (vfs map[string]claimedVF, adminDevices map[adminDevice]bool, err error) {
	if c.dir == "" {
		return nil, nil, nil
	}
	dir := filepath.Join(c.dir, "claims")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read which VFs claims have: %w", err)
	}
	vfs, adminDevices = map[string]claimedVF{}, map[adminDevice]bool{}
	for _, e := range entries {
		if !recordName.MatchString(e.Name()) {
			continue // a temporary file or a copy
		}
		r, err := readClaim(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the claim has ended meanwhile
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read which VFs claims have: %w; once no pod has a device of the claim, remove the file", err)
		}
		for _, q := range r.Requests {
			for _, d := range q.Devices {
				if q.AdminAccess {
					adminDevices[adminDevice{r.Namespace + "/" + r.Name, d.ID}] = true
				} else {
					vfs[d.ID] = claimedVF{r.Namespace + "/" + r.Pod.Name, d.Bound != ""}
				}
			}
		}
	}
	return vfs, adminDevices, nil
}

// recordName matches the name of a record: the claim's UID.
var recordName = regexp.MustCompile(`^[0-9a-fA-F-]{1,64}\.json$`)

// kept reports whether the DRA driver keeps records. Another project's driver may have the same
// name, and keeps none.
func (c claims) kept() bool {
	info, err := os.Stat(filepath.Join(c.dir, "claims"))
	return c.dir != "" && err == nil && info.IsDir()
}

func readClaim(path string) (claimRecord, error) {
	var r claimRecord
	info, err := os.Stat(path)
	if err != nil {
		return r, err
	}
	if info.Size() > maxRecord {
		return r, fmt.Errorf("%s has %d bytes, more than %d", path, info.Size(), maxRecord)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	if r.Version != recordVersion || r.UID+".json" != filepath.Base(path) || len(r.Requests) == 0 {
		return r, fmt.Errorf("%s: version %d of claim %.80q with %d requests, want version %d of the claim in its name, with its requests",
			path, r.Version, r.UID, len(r.Requests), recordVersion)
	}
	return r, nil
}

// lockPoll is the interval between tries to take a lock: flock(2) cannot wait with a deadline.
const lockPoll = 20 * time.Millisecond

// await returns once the driver has finished preparing the claims that it was preparing when
// await was called. Claims that it begins later see the configuration as it is now, so a VF
// that has been withdrawn is not handed out any more.
func (c claims) await(ctx context.Context) error {
	if c.dir == "" {
		return nil
	}
	file, err := os.Open(filepath.Join(c.dir, "calls.lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for claims that are being prepared: %w", err)
	}
	defer file.Close()
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		if err == nil {
			return nil // closing releases the lock
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("wait for claims that are being prepared: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the DRA driver has been preparing claims for %s; nothing is changed meanwhile", withdrawLimit)
		}
	}
}
