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

// claims are the records of the DRA driver of VFs, a file a claim: what a claim has is in use
// from before the driver touches it until all is as before, whatever the kubelet lists by
// then. The directory is the driver's below the kubelet's; "" knows of none.
type claims struct{ dir string }

// recordVersion of the files.
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

// claimedVF is a VF that a claim has.
type claimedVF struct {
	pod string // namespace/name
	// bound: the claim asked for a driver of its own, which the VF has while the claim lasts.
	bound bool
}

// look is a device that a claim has admin access to: somebody else has it, or nobody.
type look struct{ claim, device string }

// read lists the VFs of claims by PCI address, and those that claims only look at. What cannot
// be read is an error: it may be any of them.
func (c claims) read() (vfs map[string]claimedVF, looks map[look]bool, err error) {
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
	vfs, looks = map[string]claimedVF{}, map[look]bool{}
	for _, e := range entries {
		if !recordName.MatchString(e.Name()) {
			continue // a file that is being replaced, or somebody's copy
		}
		r, err := readClaim(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // ended meanwhile
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read which VFs claims have: %w; once no pod has a device of the claim, remove the file", err)
		}
		for _, q := range r.Requests {
			for _, d := range q.Devices {
				if q.AdminAccess {
					looks[look{r.Namespace + "/" + r.Name, d.ID}] = true
				} else {
					vfs[d.ID] = claimedVF{r.Namespace + "/" + r.Pod.Name, d.Bound != ""}
				}
			}
		}
	}
	return vfs, looks, nil
}

// recordName is the UID of a claim, as the driver names its files.
var recordName = regexp.MustCompile(`^[0-9a-fA-F-]{1,64}\.json$`)

// kept reports whether there is a place of records: a driver of the same name that is not this
// project's keeps none.
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

// lockPoll is how often a lock is tried that is taken.
const lockPoll = 20 * time.Millisecond

// await returns when no claim is being prepared that was begun before. The driver prepares
// none from a configuration that has changed since: what is withdrawn now stays so.
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
