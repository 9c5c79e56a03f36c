// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/sriovkit/sriovkit/sriov-cni/internal/file"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace: where it was found, and the inode by which
// it is told from another that is found there later.
type Namespace struct {
	Path   string `json:"path"`
	Device uint64 `json:"dev"`
	Inode  uint64 `json:"inode"` // 0: not known
}

// ErrNoNamespace: the path does not lead to a network namespace, or not to the
// one it led to. Other errors leave open whether it does.
var ErrNoNamespace = errors.New("network namespace is gone")

// undecided are errors of a call that has not found out.
var undecided = []unix.Errno{unix.EACCES, unix.EPERM, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS, unix.EIO}

// Undecided is err if it leaves open what is there: a lack of rights, memory or open files,
// or a failing disk. It is nil if err says that nothing is, or nothing that can be understood.
func Undecided(err error) error {
	if slices.ContainsFunc(undecided, func(e unix.Errno) bool { return errors.Is(err, e) }) {
		return err
	}
	return nil
}

// nsfsMagic is NSFS_MAGIC of linux/magic.h.
const nsfsMagic = 0x6e736673

// Open opens the namespace; the error wraps ErrNoNamespace if it is not there
// any more. The caller closes the file.
func (n Namespace) Open() (*os.File, Namespace, error) {
	if n.Path == "" {
		return nil, n, fmt.Errorf("no path given: %w", ErrNoNamespace)
	}
	f, err := file.Open(n.Path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		if Undecided(err) == nil {
			err = fmt.Errorf("%w: %w", ErrNoNamespace, err)
		}
		return nil, n, err
	}
	var sfs unix.Statfs_t
	var st unix.Stat_t
	if err := errors.Join(unix.Fstatfs(int(f.Fd()), &sfs), unix.Fstat(int(f.Fd()), &st)); err != nil {
		f.Close()
		return nil, n, fmt.Errorf("%s: %w", n.Path, err)
	}
	found := Namespace{Path: n.Path, Device: st.Dev, Inode: st.Ino}
	switch {
	case sfs.Type != nsfsMagic:
		err = fmt.Errorf("%s is not a network namespace: %w", n.Path, ErrNoNamespace)
	case n.Inode != 0 && (n.Device != found.Device || n.Inode != found.Inode):
		err = fmt.Errorf("%s is another namespace now: %w", n.Path, ErrNoNamespace)
	}
	if err != nil {
		f.Close()
		return nil, n, err
	}
	return f, found, nil
}
