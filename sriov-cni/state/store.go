// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/sriovkit/sriovkit/sriov-cni/internal/file"
	"golang.org/x/sys/unix"
)

// Store is the state directory.
type Store struct {
	Dir string

	// decoded is what files said, by path; nil keeps nothing. A call reads most files twice,
	// to find the VF whose lock it needs and under that lock, and they say the same.
	decoded map[string]decoded
}

// decoded is what a file said, and what that meant.
type decoded struct {
	bytes []byte
	means any
}

// Open is the state directory for one call of the plugin.
func Open(dir string) Store { return Store{Dir: dir, decoded: map[string]decoded{}} }

// JournalPath is the file of a VF's journal.
func (s Store) JournalPath(a libsriov.Address) string {
	return filepath.Join(s.Dir, "vf", a.String()+".json")
}

// MarkerPath is the file of a VF's marker.
func (s Store) MarkerPath(a libsriov.Address) string {
	return filepath.Join(s.Dir, "pci", a.String())
}

// longestName leaves room for what [temporary] adds: no file system takes more
// than 255 bytes.
const longestName = 240

// RecordPath is the file of an attachment's record: "<containerID>-<ifname>", as
// the other plugin has it. Where that would be too long, or stand for two
// attachments ("x-y" and "z", "x" and "y-z"), it is a hash of both parts, unless
// the other plugin's file is there. Neither part has a slash: skel checks that.
func (s Store) RecordPath(a Attachment) string {
	name := a.ContainerID + "-" + a.IfName
	if len(name) <= longestName {
		plain := filepath.Join(s.Dir, name)
		if !strings.Contains(a.ContainerID, "-") {
			return plain
		}
		if r, err := load[Record](s, plain); err == nil && r.Sriovkit == nil {
			return plain
		}
	}
	sum := fnv.New128a()
	_, _ = io.WriteString(sum, a.ContainerID+"/"+a.IfName)
	return filepath.Join(s.Dir, hex.EncodeToString(sum.Sum(nil))+"-"+a.IfName)
}

// splitRecordName takes "<containerID>-<ifname>" apart. Either may hold dashes,
// but the IDs that container runtimes make are hexadecimal.
func splitRecordName(name string) Attachment {
	id, ifname, _ := strings.Cut(name, "-")
	if _, err := hex.DecodeString(id); err != nil {
		i := strings.LastIndexByte(name, '-')
		id, ifname = name[:max(i, 0)], name[i+1:]
	}
	return Attachment{ContainerID: id, IfName: ifname}
}

// ErrDamaged: a state file is there but cannot be understood.
var ErrDamaged = errors.New("damaged state file")

// load reads a state file; the error wraps fs.ErrNotExist or ErrDamaged. What the result
// points to is not to be changed: the next load may return it, too.
func load[T any](s Store, path string) (v T, err error) {
	b, err := file.Read(path)
	if err != nil && !isNoFile(err) {
		return v, err
	}
	if was, kept := s.decoded[path]; err == nil && kept && bytes.Equal(was.bytes, b) {
		return was.means.(T), nil
	}
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		return v, fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	}
	if s.decoded != nil {
		s.decoded[path] = decoded{b, v}
	}
	return v, nil
}

// isNoFile reports whether an error says that something else has a file's place: a device, a
// directory, a socket. (A link to itself may as well be the directory's.)
func isNoFile(err error) bool {
	return slices.ContainsFunc([]unix.Errno{unix.EFBIG, unix.EISDIR, unix.ENXIO}, func(e unix.Errno) bool { return errors.Is(err, e) })
}

// LoadJournal is [Store.Journal] for a VF with a marker, "" for none. A journal that is out
// of date counts as missing.
func (s Store) LoadJournal(a libsriov.Address, marker string) (Journal, error) {
	j, err := s.Journal(a)
	if err == nil && s.outdated(j, marker) {
		return Journal{}, fmt.Errorf("journal of %s is out of date: %w", a, fs.ErrNotExist)
	}
	return j, err
}

// Journal reads the journal of a VF, out of date or not; zero with an error, which wraps
// fs.ErrNotExist or ErrDamaged where the file is the reason.
func (s Store) Journal(a libsriov.Address) (j Journal, err error) {
	if j, err = load[Journal](s, s.JournalPath(a)); err == nil {
		if err = j.sound(a); err != nil {
			err = fmt.Errorf("%s: %w: %w", s.JournalPath(a), ErrDamaged, err)
		}
	}
	if err != nil {
		return Journal{}, err
	}
	return j, nil
}

// Record reads an attachment's record at a path; zero with an error, which is as of Journal.
func (s Store) Record(path string) (r Record, err error) {
	if r, err = load[Record](s, path); err == nil && !r.sound() {
		err = fmt.Errorf("%s: %w", path, ErrDamaged)
	}
	if err != nil {
		return Record{}, err
	}
	r.formerBoot = r.Sriovkit == nil && olderThanBoot(path)
	return r, nil
}

// olderThanBoot reports whether a file was last written before this boot.
func olderThanBoot(path string) bool {
	var now, up unix.Timespec
	info, err := os.Stat(path)
	err = errors.Join(err, unix.ClockGettime(unix.CLOCK_REALTIME, &now), unix.ClockGettime(unix.CLOCK_BOOTTIME, &up))
	return err == nil && info.ModTime().UnixNano() < now.Nano()-up.Nano()
}

// outdated reports whether the SR-IOV CNI plugin that this one replaces, which knows no
// journals, has had the VF since this journal was written: it took the VF back, and perhaps
// gave it away again. Nothing that this plugin does, and no kill of it, leaves such files
// behind.
func (s Store) outdated(j Journal, marker string) bool {
	if marker != "" && marker != j.NetNS.Path && filepath.IsAbs(marker) && !strings.HasPrefix(j.NetNS.Path, marker) {
		return true // another pod's; a marker that is the beginning of the path was cut off by a crash
	}
	if !j.Committed {
		return false
	}
	switch r, err := s.Record(s.RecordPath(j.Owner)); {
	case errors.Is(err, fs.ErrNotExist):
		return marker == "" // a DEL that failed, of either plugin, leaves marker or record
	default:
		return err == nil && r.Sriovkit == nil // given to the same pod again, by the other plugin
	}
}

// DropOutdated removes the journal of a VF if it is out of date. The caller
// holds the VF's lock.
func (s Store) DropOutdated(a libsriov.Address) error {
	marker, err := s.Marker(a)
	if err != nil {
		return err
	}
	if j, err := s.Journal(a); err != nil || !s.outdated(j, marker) {
		return nil
	}
	return Remove(s.JournalPath(a))
}

// uncommitted is how the file of a journal ends before ADD has reached its end,
// and committed, of the same length, how it ends then.
const uncommitted, committed = "false}", "true }"

// Commit marks a journal as committed, in its place: a kill comes before one
// write of six bytes or after it. The caller holds the VF's lock.
func (s Store) Commit(a libsriov.Address) error {
	f, err := file.Open(s.JournalPath(a), unix.O_WRONLY, 0)
	if err == nil {
		defer f.Close()
		_, err = f.Seek(-int64(len(uncommitted)), io.SeekEnd)
	}
	if err == nil {
		_, err = f.WriteString(committed)
	}
	if err != nil {
		return cnierr.IO(fmt.Errorf("save state: %w", err))
	}
	return nil
}

// Save replaces a state file.
func Save(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return Write(path, b)
}

// Write makes a file that appears whole or not at all. It is written without a
// name and then given one, so that a kill leaves nothing behind. Only a file
// that is there already is replaced by way of a second one.
func Write(path string, b []byte) error {
	err := fs.ErrExist
	if !Exists(path) {
		err = writeNew(path, b)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = writeNew(path, b)
		}
	}
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) { // the latter two: no O_TMPFILE
		if err = file.Create(temporary(path), b); err == nil {
			err = os.Rename(temporary(path), path)
		}
	}
	if err != nil {
		return cnierr.IO(fmt.Errorf("save state: %w", err))
	}
	return nil
}

func writeNew(path string, b []byte) error {
	f, err := file.Open(filepath.Dir(path), unix.O_TMPFILE|unix.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &os.LinkError{Op: "link", Old: f.Name(), New: path, Err: err}
	}
	return nil
}

// temporary is the name by way of which a file is replaced. It is fixed: only
// the holder of the VF's lock writes, over what a killed one left.
func temporary(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
}

// Remove deletes files that may be gone already, and their temporary ones.
func Remove(paths ...string) error {
	var errs []error
	for _, p := range paths {
		for _, name := range []string{p, temporary(p)} {
			// os.Remove of a file that is not there asks for a directory, too.
			err := unix.Unlink(name)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				err = os.Remove(name)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// Marker reads the path of the namespace that a VF was given to; "" if there is
// no marker, and what is no path if it is damaged.
func (s Store) Marker(a libsriov.Address) (string, error) {
	b, err := file.Read(s.MarkerPath(a))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if isNoFile(err) {
		return "no file", nil
	}
	return strings.TrimSpace(string(b)), err
}

// Devices lists the VFs that have a journal (kind "vf") or a marker (kind "pci").
func (s Store) Devices(kind string) ([]libsriov.Address, error) {
	names, err := list(filepath.Join(s.Dir, kind))
	var out []libsriov.Address
	for _, name := range names {
		if a, err := libsriov.ParseAddress(strings.TrimSuffix(name, ".json")); err == nil {
			out = append(out, a)
		}
	}
	return out, err
}

// Found is a record, and whose it is.
type Found struct {
	Record
	Path  string
	Owner Attachment
}

// Records reads every record that can be understood. The error tells of those that could
// not be read, of which nobody knows what they say.
func (s Store) Records() ([]Found, error) {
	names, err := list(s.Dir)
	unread := []error{err}
	var all []Found
	for _, name := range names {
		f := Found{Path: filepath.Join(s.Dir, name), Owner: splitRecordName(name)}
		if f.Record, err = s.Record(f.Path); err != nil {
			unread = append(unread, Undecided(err))
			continue
		}
		if f.Sriovkit != nil && f.Sriovkit.Owner != (Attachment{}) {
			f.Owner = f.Sriovkit.Owner
		}
		all = append(all, f)
	}
	return all, errors.Join(unread...)
}

// list names the files of a directory that may be missing, temporary ones left
// out.
func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// Exists reports whether there is a file, of any kind.
func Exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
