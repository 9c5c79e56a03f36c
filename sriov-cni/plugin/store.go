package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/sriovkit/sriovkit/libsriov"
	"golang.org/x/sys/unix"
)

// store is the state directory. Of each attachment it holds three files:
//
//	vf/<address>.json          journal: who has the VF and how it was before
//	pci/<address>              marker: path of the namespace that has the VF
//	<containerID>-<ifname>     record: the configuration ADD was given
//
// and a lock for each VF that was ever used, pci/vf_lock/<address>.lock. Marker,
// record and lock have the names and formats of the SR-IOV CNI plugin that this
// one replaces, so either can take over from the other under running pods.
//
// The journal comes first, then the record, then the marker, with which ADD has
// reached its end; DEL removes marker, journal, record. The journal is what the
// VF is brought back to, however many ADDs and DELs fail meanwhile. Without one,
// what a VF is like is what its administrator wants, and stays. Files
// appear whole, and are not synced to disk: what they describe does not survive
// a power cut either.
type store struct{ dir string }

func (s store) journalPath(a libsriov.Address) string {
	return filepath.Join(s.dir, "vf", a.String()+".json")
}

func (s store) markerPath(a libsriov.Address) string {
	return filepath.Join(s.dir, "pci", a.String())
}

// recordPath is safe: the CNI specification keeps slashes out of both parts,
// and skel checks that.
func (s store) recordPath(a attachment) string {
	return filepath.Join(s.dir, a.ContainerID+"-"+a.IfName)
}

// errDamaged: a state file is there but cannot be understood.
var errDamaged = errors.New("damaged state file")

// load reads a state file into v; the error wraps fs.ErrNotExist or errDamaged.
func load(path string, v any) error {
	b, err := readFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w: %w", path, errDamaged, err)
	}
	return nil
}

// loadJournal is load for the journal of a VF with a marker, "" for none. A
// journal that is out of date counts as missing.
func (s store) loadJournal(a libsriov.Address, marker string, j *journal) error {
	if err := load(s.journalPath(a), j); err != nil {
		return err
	}
	if s.outdated(*j, marker) {
		*j = journal{}
		return fmt.Errorf("journal of %s is out of date: %w", a, fs.ErrNotExist)
	}
	return nil
}

// outdated tells that the other plugin, which does not know journals, has had
// the VF since this one was written: it took the VF back, and perhaps gave it
// away again. Nothing that this plugin does, and no kill of it, leaves such
// files behind.
func (s store) outdated(j journal, marker string) bool {
	if marker != "" && marker != j.NetNS.Path {
		return true // it is another pod's now
	}
	if !j.Committed {
		return false
	}
	var r record
	switch err := load(s.recordPath(j.Owner), &r); {
	case errors.Is(err, fs.ErrNotExist):
		return marker == "" // DEL, ours or theirs, leaves either to the last if it fails
	default:
		return err == nil && r.Sriovkit == nil // the same pod has it again, by theirs
	}
}

// dropOutdated removes the journal of a VF if it is out of date. The caller
// holds the VF's lock.
func (s store) dropOutdated(a libsriov.Address) error {
	marker, err := s.marker(a)
	if err != nil {
		return err
	}
	var j journal
	if load(s.journalPath(a), &j) != nil || !s.outdated(j, marker) {
		return nil
	}
	return remove(s.journalPath(a))
}

// uncommitted is how the file of a journal ends before ADD has reached its end,
// and committed, of the same length, how it ends then.
const uncommitted, committed = "false}", "true }"

// commit marks a journal as committed, in its place: a kill comes before one
// write of six bytes or after it. The caller holds the VF's lock.
func (s store) commit(a libsriov.Address) error {
	f, err := open(s.journalPath(a), unix.O_WRONLY, 0)
	if err == nil {
		defer f.Close()
		_, err = f.Seek(-int64(len(uncommitted)), io.SeekEnd)
	}
	if err == nil {
		_, err = f.WriteString(committed)
	}
	if err != nil {
		return &failure{Code: types.ErrIOFailure, Err: fmt.Errorf("save state: %w", err)}
	}
	return nil
}

// save replaces a state file.
func save(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return write(path, b)
}

// write makes a file that appears whole or not at all. It is written without a
// name and then given one, so that a kill leaves nothing behind. Only a file
// that is there already is replaced by way of a second one.
func write(path string, b []byte) error {
	err := fs.ErrExist
	if !exists(path) {
		err = writeNew(path, b)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = writeNew(path, b)
		}
	}
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) { // the latter two: no O_TMPFILE
		if err = create(temporary(path), b); err == nil {
			err = os.Rename(temporary(path), path)
		}
	}
	if err != nil {
		return &failure{Code: types.ErrIOFailure, Err: fmt.Errorf("save state: %w", err)}
	}
	return nil
}

func writeNew(path string, b []byte) error {
	f, err := open(filepath.Dir(path), unix.O_TMPFILE|unix.O_WRONLY, 0o600)
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

// remove deletes files that may be gone already, and their temporary ones.
func remove(paths ...string) error {
	var errs []error
	for _, p := range paths {
		for _, name := range []string{p, temporary(p)} {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// marker reads the path of the namespace that a VF was given to; "" if there is
// no marker.
func (s store) marker(a libsriov.Address) (string, error) {
	b, err := readFile(s.markerPath(a))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

// devices lists the VFs that have a journal or a marker.
func (s store) devices(kind string) ([]libsriov.Address, error) {
	names, err := list(filepath.Join(s.dir, kind))
	var out []libsriov.Address
	for _, name := range names {
		if a, err := libsriov.ParseAddress(strings.TrimSuffix(name, ".json")); err == nil {
			out = append(out, a)
		}
	}
	return out, err
}

// records lists the names of the record files.
func (s store) records() ([]string, error) { return list(s.dir) }

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

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
