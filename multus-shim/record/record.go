// SPDX-License-Identifier: Apache-2.0

// Package record keeps what ADD ran for each container, so that DEL, CHECK and
// GC replay exactly that: without the API server, after a reboot, and after the
// NADs changed. One file per container and CNI_IFNAME under the state directory:
//
//	records/<key>.json         our record, renamed into place; see Key
//	records/<key>.first        the same before anything ran, synced; for the next boot
//	locks/<container>          held while a command works on the container
//	results/<network>-<container>-<ifname>   libcni's format, one per attachment
//	<container>                the scratch file of upstream Multus, read only
//
// Directories are 0700, files 0600.
package record

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/sys/atomicwriter"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
	"github.com/sriovkit/sriovkit/multus-shim/delegate"
)

// Version of the format. A file of another version is refused, not guessed at.
const Version = 1

// ErrCorrupt: a record exists and cannot be read.
var ErrCorrupt = errors.New("record is damaged")

// mainIfname is the interface that the runtimes of Kubernetes ask for.
const mainIfname = "eth0"

// Key names the record of a container under a CNI_IFNAME: the container's ID, which no
// "@" is part of (CNI specification, "Parameters"), and the interface unless it is eth0.
func Key(containerID, ifname string) string {
	if ifname == "" || ifname == mainIfname {
		return containerID
	}
	return containerID + "@" + ifname
}

// Split takes a key apart.
func Split(key string) (containerID, ifname string) {
	containerID, ifname, _ = strings.Cut(key, "@")
	return containerID, cmp.Or(ifname, mainIfname)
}

// Record is one container under one CNI_IFNAME.
type Record struct {
	Version     int      `json:"version"`
	Network     string   `json:"network"` // CNI name of the multus network
	ContainerID string   `json:"containerID"`
	Ifname      string   `json:"ifname"` // CNI_IFNAME of the ADD
	Netns       string   `json:"netns"`
	Boot        string   `json:"boot"` // Store.Boot at the time
	Pod         conf.Pod `json:"pod"`
	Entries     []Entry  `json:"attachments"` // in order of ADD

	// Unreadable is why the container's own record could not be used where there is one and
	// this was rebuilt from other sources, which do not tell whose it is; nil otherwise.
	Unreadable error `json:"-"`

	rebooted bool // the last updates may be lost
}

// Entry is one attachment and how far it got.
type Entry struct {
	delegate.Attachment
	Added  bool            `json:"added"`            // ADD succeeded
	Result json.RawMessage `json:"result,omitempty"` // of ADD, as printed
	// Unstarted is how many plugins at the end of the chain ADD could not start, once it has
	// failed: they have nothing to take back.
	Unstarted int `json:"unstarted,omitempty"`
}

// Key is the name of the record.
func (r *Record) Key() string { return Key(r.ContainerID, r.Ifname) }

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

	// results are the files in results/ by key, once Index has read them;
	// nil lists the directory for every look-up.
	results    map[string][]string
	unreadable []string // and those whose content does not tell a container
}

// Path is where the record of a key is.
func (s Store) Path(key string) string { return filepath.Join(s.Dir, "records", key+".json") }

// Create saves the first record of an attachment and returns when it is on disk.
func (s Store) Create(r *Record) error {
	path, first := s.Path(r.Key()), s.firstPath(r.Key())
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	data, err := s.stamp(r)
	if err != nil {
		return err
	}
	if err := atomicwriter.WriteFile(path, data, 0o600); err != nil { // syncs the file
		return err
	}
	if err := os.Remove(first); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(path, first); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// Save replaces a record. A process that reads it sees all of the old one or all of the new
// one. Nothing is synced, which is most of the time of an ADD on a busy disk: the machine may
// go down and take the update with it. Then the first record stands in, and Started allows
// for it.
func (s Store) Save(r *Record) error {
	data, err := s.stamp(r)
	if err != nil {
		return err
	}
	temporary := filepath.Join(filepath.Dir(s.Path(r.Key())), temporaryPrefix(r.Key()))
	if err := os.WriteFile(temporary, data, 0o600); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return os.Rename(temporary, s.Path(r.Key()))
}

func (s Store) stamp(r *Record) ([]byte, error) {
	r.Version, r.Boot = Version, s.Boot
	return marshal(r)
}

func (s Store) firstPath(key string) string { return filepath.Join(s.Dir, "records", key+".first") }

// temporaryPrefix begins the names of files that are renamed to a record;
// atomicwriter appends a number.
func temporaryPrefix(key string) string { return ".tmp-" + key + ".json" }

// Load reads the record of a key. The error is fs.ErrNotExist when there
// is none and ErrCorrupt when it is unusable. An update that the last boot did not
// write whole leaves the first record.
func (s Store) Load(key string) (*Record, error) {
	r, err := s.load(s.Path(key), key)
	if errors.Is(err, ErrCorrupt) {
		if first, firstErr := s.load(s.firstPath(key), key); firstErr == nil && first.rebooted {
			return first, nil
		}
	}
	return r, err
}

func (s Store) load(path, key string) (*Record, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	r, err := parse(data)
	if err == nil && r.Key() != key {
		err = fmt.Errorf("container %q and interface %q, want %q", r.ContainerID, r.Ifname, key)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
	}
	r.rebooted = r.Boot != s.Boot
	return r, nil
}

// Remove forgets an attachment: its record, what a killed Save left of one, and
// the scratch file that it was read from. What does not exist is no error.
func (s Store) Remove(key string) error {
	names, err := readNames(filepath.Join(s.Dir, "records"))
	if err != nil {
		return err
	}
	paths := []string{s.firstPath(key), s.Path(key)}
	if container := s.scratchOf(key); container != "" {
		paths = append(paths, s.scratchPath(container))
	}
	for _, name := range names {
		if strings.HasPrefix(name, temporaryPrefix(key)) {
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

// Records lists the keys of a container's records.
func (s Store) Records(containerID string) ([]string, error) {
	names, err := readNames(filepath.Join(s.Dir, "records"))
	var keys []string
	for _, name := range names {
		key, isRecord := strings.CutSuffix(name, ".json")
		if id, _ := Split(key); isRecord && id == containerID {
			keys = append(keys, key)
		}
	}
	return keys, err
}

// Foreign reports whether nothing but a file in the state directory itself, where
// upstream keeps one per container and people keep notes, has the name.
func (s Store) Foreign(key string) bool {
	_, err := os.Lstat(s.Path(key))
	return errors.Is(err, fs.ErrNotExist) && len(s.results[key]) == 0 &&
		!slices.ContainsFunc(s.unreadable, func(name string) bool { return strings.Contains(name, "-"+key+"-") })
}

// Keys lists the keys that have a record, a scratch file or, in a store with an
// index, libcni entries; sorted. Whatever has the name of a record counts as one: a pipe,
// a directory or a link in its place stands for a container all the same.
func (s Store) Keys() ([]string, error) {
	ids := slices.Collect(maps.Keys(s.results))
	for _, source := range []struct{ dir, suffix string }{{filepath.Join(s.Dir, "records"), ".json"}, {s.Dir, ""}} {
		entries, err := os.ReadDir(source.dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			id, ok := strings.CutSuffix(e.Name(), source.suffix)
			if ok && (source.suffix != "" || e.Type().IsRegular()) && !strings.HasPrefix(id, ".") {
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
	if r.Ifname == "" || len(r.Entries) == 0 { // nothing would be detached, and that taken for done
		return nil, fmt.Errorf("ifname %q and %d attachments: neither may be empty", r.Ifname, len(r.Entries))
	}
	for i, e := range r.Entries {
		if e.Name == "" || e.Ifname == "" || len(e.Plugins) == 0 || e.Unstarted < 0 || e.Unstarted > len(e.Plugins) {
			return nil, fmt.Errorf("attachment %d is incomplete", i+1)
		}
		if err := e.Check(); err != nil {
			return nil, fmt.Errorf("attachment %d: %w", i+1, err)
		}
	}
	return &r, nil
}

// readFile reads a regular file. Something else of that name, such as a pipe, keeps nobody
// waiting, and neither that nor a link that leads nowhere is taken for nothing: ErrCorrupt.
func readFile(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if _, linkErr := os.Lstat(path); linkErr == nil {
			return nil, fmt.Errorf("%w: %s: a link that leads nowhere", ErrCorrupt, path)
		}
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: %s: no regular file", ErrCorrupt, path)
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(file)
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
