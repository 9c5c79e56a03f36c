// SPDX-License-Identifier: Apache-2.0

// Package record keeps on disk what was done for each prepared claim: one file a
// claim, replaced whole, written before anything is changed for the claim and removed
// after everything is as before. It is what Unprepare works from, which comes without
// the claim and perhaps to another process.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/atomicwriter"
	"github.com/sriovkit/sriovkit/device-plugin/config"
	"k8s.io/apimachinery/pkg/types"
)

// version of the files. Another version is an error, never an empty record.
const version = 1

// Claim is a claim and what was done for it.
type Claim struct {
	Version   int       `json:"version"`
	UID       types.UID `json:"uid"`
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	// PodClaim is the claim's name in the pod's specification, for a claim made from a
	// template (annotation resource.kubernetes.io/pod-claim-name); else "".
	PodClaim string `json:"podClaim,omitempty"`
	Pod      Pod    `json:"pod"`
	// BootID is /proc/sys/kernel/random/boot_id as the drivers were bound: after a
	// reboot they are the kernel's own choice again.
	BootID string `json:"bootID"`
	// Prepared says that all was done. A record without it was cut short.
	Prepared bool `json:"prepared"`
	// PerRequest makes the variables of a container list the devices of its request
	// alone; else those of the claim. See package prepare.
	PerRequest bool      `json:"perRequest,omitempty"`
	Requests   []Request `json:"requests"`
}

// Pod is the one pod that the claim is reserved for.
type Pod struct {
	UID  types.UID `json:"uid"`
	Name string    `json:"name"` // in the claim's namespace
}

// Request is a request of the claim, with the devices that were allocated for it.
type Request struct {
	Name string `json:"name"` // with a subrequest: "main/sub"
	// AdminAccess devices are looked at, not used: nothing was done for them.
	AdminAccess bool     `json:"adminAccess,omitempty"`
	Network     string   `json:"network,omitempty"` // NetworkAttachmentDefinition asked for
	VhostNet    bool     `json:"vhostNet,omitempty"`
	Devices     []Device `json:"devices"`
}

// Device is an allocated device.
type Device struct {
	ID       string          `json:"id"`   // PCI address or name on the auxiliary bus
	Name     string          `json:"name"` // in the ResourceSlice
	Resource config.Resource `json:"resource"`
	ShareID  *types.UID      `json:"shareID,omitempty"`
	// Driver is what the device was bound to when the pod got it.
	Driver string `json:"driver,omitempty"`
	// Bound is the driver that the claim asked for, if it had to be bound to it, and
	// Before the one it had, "" if none.
	Bound  string `json:"bound,omitempty"`
	Before string `json:"before,omitempty"`
}

// Base is the name of the request that a container refers to.
func (r Request) Base() string {
	base, _, _ := strings.Cut(r.Name, "/")
	return base
}

// Devices are the IDs of all devices that the claim has the use of.
func (c Claim) Devices() (ids []string) {
	for _, r := range c.Requests {
		for _, d := range r.Devices {
			if !r.AdminAccess {
				ids = append(ids, d.ID)
			}
		}
	}
	return ids
}

// Holds reports whether the claim has the use of a device.
func (c Claim) Holds(id string) bool {
	return slices.Contains(c.Devices(), id)
}

// Same reports whether two claims have the same devices for the same requests.
func (c Claim) Same(other Claim) bool {
	if len(c.Requests) != len(other.Requests) {
		return false
	}
	for i, r := range c.Requests {
		o := other.Requests[i]
		if r.Name != o.Name || r.AdminAccess != o.AdminAccess || len(r.Devices) != len(o.Devices) {
			return false
		}
		for j, d := range r.Devices {
			if d.ID != o.Devices[j].ID {
				return false
			}
		}
	}
	return true
}

// Store is the directory of the records, on a disk that outlives a reboot.
type Store struct{ Dir string }

// ErrUnreadable: a record is there and cannot be read, so it is not known which devices
// are in use.
var ErrUnreadable = errors.New("record of a claim is unreadable")

const suffix = ".json"

// Path is where the record of a claim is, if it has one.
func (s Store) Path(uid types.UID) (string, error) {
	if uid == "" || len(uid) > 64 || strings.Trim(string(uid), "0123456789abcdefABCDEF-") != "" {
		return "", fmt.Errorf("claim UID %.80q is not a UID", uid)
	}
	return filepath.Join(s.Dir, string(uid)+suffix), nil
}

// Load reads the record of a claim; nil if there is none. It fails with ErrUnreadable.
func (s Store) Load(uid types.UID) (*Claim, error) {
	path, err := s.Path(uid)
	if err != nil {
		return nil, err
	}
	return read(path)
}

func read(path string) (*Claim, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var c Claim
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err == nil && (c.Version != version || string(c.UID)+suffix != filepath.Base(path)) {
		err = fmt.Errorf("version %d of claim %.80q, want version %d of the claim in its name", c.Version, c.UID, version)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w; once no pod has a device of it, remove %s", ErrUnreadable, err, path)
	}
	return &c, nil
}

// All reads every record. Those that can be read are returned also with an error, which
// wraps ErrUnreadable.
func (s Store) All() ([]Claim, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	var out []Claim
	var errs []error
	for _, e := range entries {
		// Other files are those of an interrupted replacement.
		uid, ok := strings.CutSuffix(e.Name(), suffix)
		if _, err := s.Path(types.UID(uid)); !ok || err != nil {
			continue
		}
		c, err := read(filepath.Join(s.Dir, e.Name()))
		errs = append(errs, err)
		if c != nil {
			out = append(out, *c)
		}
	}
	return out, errors.Join(errs...)
}

// Save writes a record, so that a reader sees the old one or the new one, whole. The record of
// a prepared claim is synced to disk, because kubelet does not ask for the claim again. Records
// of claims being prepared or unprepared are not: after a power cut the file may be missing or
// the one before. The power cut has also undone what was done on the host, and kubelet asks for
// such a claim again.
func (s Store) Save(c Claim) error {
	path, err := s.Path(c.UID)
	if err != nil {
		return err
	}
	if err := s.make(); err != nil {
		return fmt.Errorf("record of claim: %w", err)
	}
	c.Version = version
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := atomicwriter.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("record of claim: %w", err)
	}
	if !c.Prepared {
		return nil
	}
	return syncDir(s.Dir)
}

// make makes the directory, so that it is there after a power cut, too.
func (s Store) make() error {
	_, err := os.Stat(s.Dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	return syncDir(filepath.Dir(s.Dir))
}

// syncDir has the names in a directory on the disk; a variable for tests.
var syncDir = func(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("record of claim: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("record of claim: %w", err)
	}
	return nil
}

// Remove deletes a record; none is no error.
func (s Store) Remove(uid types.UID) error {
	path, err := s.Path(uid)
	if err != nil {
		return err
	}
	err = os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("record of claim: %w", err)
	}
	return syncDir(s.Dir)
}
