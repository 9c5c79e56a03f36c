// SPDX-License-Identifier: Apache-2.0

// Package record keeps what ADD ran for each container, so that DEL, CHECK and
// GC replay exactly that: without the API server, after a reboot, and after the
// NADs changed. One file per container and CNI_IFNAME under the state directory:
//
//	records/<key>.json         our record, and below it what became of it; see Key
//	locks/containers           its bytes are locked, one a container
//	results/<network>-<container>-<ifname>   libcni's format, one per attachment
//	<container>                the scratch file of upstream Multus, read only
//
// Directories are 0700, files 0600.
package record

import (
	"bytes"
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

	stored  bool // it is on disk
	partial bool // what became of it may be lost, in part
}

// Entry is one attachment and how far it got.
type Entry struct {
	delegate.Attachment
	Progress

	place int // in the record as it was created, or is to be
}

// Progress is how far an attachment got.
type Progress struct {
	Added  bool            `json:"added"`            // ADD succeeded
	Result json.RawMessage `json:"result,omitempty"` // of ADD, as printed
	// Unstarted is how many plugins at the end of the chain ADD could not start, once it has
	// failed: they have nothing to take back.
	Unstarted int `json:"unstarted,omitempty"`
}

// Key is the name of the record.
func (r *Record) Key() string { return Key(r.ContainerID, r.Ifname) }

// update is what is appended to a record. Places are those of the record as it was created.
type update struct {
	Changed map[int]Progress `json:"changed,omitempty"` // by place
	Left    []int            `json:"left,omitempty"`    // DEL is through with all others
}

// Started are the entries whose plugins may have run: all that were added and
// the first that was not. The record is brought up to date after each, so no later one
// can have begun, unless the machine went down and took an update with it.
func (r *Record) Started() []Entry {
	for i, e := range r.Entries {
		if !e.Added && !r.partial {
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

// Create saves the record of an attachment in the place of what is there, and returns when
// it is on disk.
func (s Store) Create(r *Record) error {
	path := s.Path(r.Key())
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	r.Version, r.Boot = Version, s.Boot
	data, err := marshal(r)
	if err != nil {
		return err
	}
	if err := atomicwriter.WriteFile(path, data, 0o600); err != nil { // syncs the file
		return err
	}
	r.stored = true
	r.number()
	return syncDir(filepath.Dir(path))
}

// number gives the entries their places.
func (r *Record) number() {
	for i := range r.Entries {
		r.Entries[i].place = i
	}
}

// Update appends how far some entries, by their index, have got.
func (s Store) Update(r *Record, changed ...int) error {
	u := update{Changed: map[int]Progress{}}
	for _, i := range changed {
		u.Changed[r.Entries[i].place] = r.Entries[i].Progress
	}
	return s.append(r.Key(), u)
}

// Reduce appends which entries are left of a record, in their order: DEL is through with
// the others. There is at least one.
func (s Store) Reduce(r *Record, left []Entry) error {
	if !r.stored { // it was rebuilt from other sources
		if err := s.Create(r); err != nil {
			return err
		}
	}
	var u update
	for _, e := range left {
		u.Left = append(u.Left, e.place)
	}
	return s.append(r.Key(), u)
}

// append adds to a record. Nothing is synced, which is most of the time of an ADD on a busy
// disk, and no file is made: the machine may go down and take the update with it, and
// Started allows for it.
func (s Store) append(key string, u update) error {
	data, err := marshal(u)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(s.Path(key), os.O_WRONLY|os.O_APPEND|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Close())
}

// temporaryPrefix begins the names of files that atomicwriter renames to a record; it appends a
// number.
func temporaryPrefix(key string) string { return ".tmp-" + key + ".json" }

// Load reads the record of a key. The error is fs.ErrNotExist when there
// is none and ErrCorrupt when it is unusable.
func (s Store) Load(key string) (*Record, error) {
	path := s.Path(key)
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
	r.partial = r.partial || r.Boot != s.Boot
	return r, nil
}

// Remove deletes an attachment's record, what a killed Create left of one, and the scratch file
// from which it was read. Files that do not exist are no error.
func (s Store) Remove(key string) error {
	names, err := readNames(filepath.Join(s.Dir, "records"))
	if err != nil {
		return err
	}
	paths := []string{s.Path(key)}
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

// parse reads a record and what was appended to it, up to what cannot be read. It is never
// less than what is on disk of an attachment.
func parse(data []byte) (*Record, error) {
	var r Record
	in := json.NewDecoder(bytes.NewReader(data))
	if err := in.Decode(&r); err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	r.stored = true
	r.number()
	all := r.Entries
	for {
		var u update
		err := in.Decode(&u)
		if errors.Is(err, io.EOF) {
			return &r, nil
		}
		if err != nil || !u.fits(all) {
			r.partial = true
			return &r, nil
		}
		for place, p := range u.Changed {
			all[place].Progress = p
		}
		if u.Left == nil {
			continue
		}
		r.Entries = nil
		for _, place := range u.Left {
			e := all[place]
			e.Added = true // it has to go
			r.Entries = append(r.Entries, e)
		}
	}
}

func (r *Record) check() error {
	if r.Version != Version {
		return fmt.Errorf("version %d, this binary knows %d", r.Version, Version)
	}
	if r.Ifname == "" || len(r.Entries) == 0 { // nothing would be detached, and that taken for done
		return fmt.Errorf("ifname %q and %d attachments: neither may be empty", r.Ifname, len(r.Entries))
	}
	for i, e := range r.Entries {
		if e.Name == "" || e.Ifname == "" || len(e.Plugins) == 0 || !e.fits(len(e.Plugins)) {
			return fmt.Errorf("attachment %d is incomplete", i+1)
		}
		if err := e.Check(); err != nil {
			return fmt.Errorf("attachment %d: %w", i+1, err)
		}
	}
	return nil
}

// fits reports whether the progress can be that of a chain of so many plugins.
func (p Progress) fits(plugins int) bool { return p.Unstarted >= 0 && p.Unstarted <= plugins }

// fits reports whether an update can be that of a record.
func (u update) fits(entries []Entry) bool {
	for place, p := range u.Changed {
		if place < 0 || place >= len(entries) || !p.fits(len(entries[place].Plugins)) {
			return false
		}
	}
	seen := map[int]bool{}
	for _, place := range u.Left {
		if place < 0 || place >= len(entries) || seen[place] {
			return false
		}
		seen[place] = true
	}
	return u.Left == nil || len(u.Left) > 0
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
