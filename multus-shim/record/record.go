// Package record keeps what ADD ran for each container, so that DEL, CHECK and
// GC replay exactly that: without the API server, after a reboot, and after the
// NADs changed. One file per container under the state directory:
//
//	records/<container>.json   our record, synced and renamed into place
//	locks/<container>          held while a command works on the container
//	results/<network>-<container>-<ifname>   libcni's format, one per attachment
//	<container>                the scratch file of upstream Multus, read only
//
// Directories are 0700, files 0600.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/atomicwriter"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
	"github.com/sriovkit/sriovkit/multus-shim/delegate"
)

// Version of the format. A file of another version is refused, not guessed at.
const Version = 1

// ErrCorrupt: a record exists and cannot be read.
var ErrCorrupt = errors.New("record is damaged")

// Record is one container.
type Record struct {
	Version     int      `json:"version"`
	Network     string   `json:"network"` // CNI name of the multus network
	ContainerID string   `json:"containerID"`
	Ifname      string   `json:"ifname"` // CNI_IFNAME of the ADD
	Netns       string   `json:"netns"`
	Boot        string   `json:"boot"` // Store.Boot at the time
	Pod         conf.Pod `json:"pod"`
	Entries     []Entry  `json:"attachments"` // in order of ADD

	rebooted bool // the last updates may be lost
}

// Entry is one attachment and how far it got.
type Entry struct {
	delegate.Attachment
	Added  bool            `json:"added"`            // ADD succeeded
	Result json.RawMessage `json:"result,omitempty"` // of ADD, as printed
}

// Started are the entries whose plugins may have run: all that were added and
// the first that was not. The record is written after each, so no later one
// can have begun, unless the machine went down and took an update with it.
func (r *Record) Started() []Entry {
	for i, e := range r.Entries {
		if !e.Added && !r.rebooted {
			return r.Entries[:i+1]
		}
	}
	return r.Entries
}

// Store is a state directory.
type Store struct {
	Dir  string
	Boot string // identifies this boot of the machine (/proc/sys/kernel/random/boot_id)

	// results are the files in results/ by container, once Index has read them;
	// nil lists the directory for every look-up.
	results map[string][]string
}

// Path is where the record of a container is.
func (s Store) Path(containerID string) string {
	return filepath.Join(s.Dir, "records", containerID+".json")
}

// Create saves the first record of a container and returns when it is on disk.
func (s Store) Create(r *Record) error {
	if err := os.MkdirAll(filepath.Dir(s.Path(r.ContainerID)), 0o700); err != nil {
		return err
	}
	if err := s.Save(r); err != nil {
		return err
	}
	return syncDir(filepath.Dir(s.Path(r.ContainerID)))
}

// Save replaces the record of its container. A process that reads it sees all
// of the old one or all of the new one. So does the next boot, without a promise
// which: the directory is not synced again, half of the cost of an update, and
// Started allows for it.
func (s Store) Save(r *Record) error {
	r.Version, r.Boot = Version, s.Boot
	data, err := marshal(r)
	if err != nil {
		return err
	}
	return atomicwriter.WriteFile(s.Path(r.ContainerID), data, 0o600)
}

// Load reads the record of a container. The error is fs.ErrNotExist when there
// is none and ErrCorrupt when it is unusable.
func (s Store) Load(containerID string) (*Record, error) {
	path := s.Path(containerID)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r, err := parse(data)
	if err == nil && r.ContainerID != containerID {
		err = fmt.Errorf("container %q, want %q", r.ContainerID, containerID)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
	}
	r.rebooted = r.Boot != s.Boot
	return r, nil
}

// Remove forgets a container: its record, what a killed Save left of one, and
// its scratch file. What does not exist is no error.
func (s Store) Remove(containerID string) error {
	names, err := readNames(filepath.Join(s.Dir, "records"))
	if err != nil {
		return err
	}
	paths := []string{s.Path(containerID), s.scratchPath(containerID)}
	for _, name := range names {
		if strings.HasPrefix(name, ".tmp-"+containerID+".json") { // atomicwriter's
			paths = append(paths, filepath.Join(s.Dir, "records", name))
		}
	}
	var errs []error
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Containers lists the containers that have a record, a scratch file or, in a
// store with an index, libcni entries; sorted.
func (s Store) Containers() ([]string, error) {
	ids := slices.Collect(maps.Keys(s.results))
	for _, source := range []struct{ dir, suffix string }{{filepath.Join(s.Dir, "records"), ".json"}, {s.Dir, ""}} {
		entries, err := os.ReadDir(source.dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			id, ok := strings.CutSuffix(e.Name(), source.suffix)
			if ok && e.Type().IsRegular() && !strings.HasPrefix(id, ".") {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

func parse(data []byte) (*Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, err
	}
	if r.Version != Version {
		return nil, fmt.Errorf("version %d, this binary knows %d", r.Version, Version)
	}
	for i, e := range r.Entries {
		if e.Name == "" || e.Ifname == "" || len(e.Plugins) == 0 {
			return nil, fmt.Errorf("attachment %d is incomplete", i+1)
		}
	}
	return &r, nil
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
