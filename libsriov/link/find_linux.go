// SPDX-License-Identifier: Apache-2.0

package link

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sriovkit/sriovkit/libsriov"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace of the host, as a path that opens it.
type Namespace struct {
	Path  string
	inode namespaceID
}

// namespaceID tells namespaces apart: several paths may lead to one.
type namespaceID struct{ dev, ino uint64 }

// Namespaces lists the network namespaces that have a name below
// /run/netns or a process, each once. It needs root and the host's own view of
// processes; paths are below root.
func Namespaces(root string) ([]Namespace, error) {
	var out []Namespace
	seen := map[namespaceID]bool{}
	var errs []error
	for _, pattern := range []string{"run/netns/*", "proc/[0-9]*/ns/net"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			var st unix.Stat_t
			switch err := unix.Stat(p, &st); {
			case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH):
				continue // the process has ended
			case err != nil:
				errs = append(errs, &fs.PathError{Op: "stat", Path: p, Err: err})
				continue
			}
			id := namespaceID{st.Dev, st.Ino}
			if !seen[id] {
				seen[id] = true
				out = append(out, Namespace{Path: p, inode: id})
			}
		}
	}
	return out, errors.Join(errs...)
}

// Find looks for the interface of a device in every namespace of the host and
// returns the namespace, which the caller closes. It is ErrNotFound if no
// namespace that could be entered has it; the error then also joins why others
// could not be.
func Find(root string, device libsriov.Address) (*os.File, Link, error) {
	namespaces, err := Namespaces(root)
	problems := []error{err}
	for _, ns := range namespaces {
		f, l, err := find(ns.Path, device)
		if err == nil {
			return f, l, nil
		}
		if !errors.Is(err, ErrNotFound) && !errors.Is(err, unix.EINVAL) { // EINVAL: a name without a namespace behind it
			problems = append(problems, err)
		}
	}
	return nil, Link{}, errors.Join(append([]error{fmt.Errorf("interface of %s in any namespace: %w", device, ErrNotFound)}, problems...)...)
}

func find(path string, device libsriov.Address) (*os.File, Link, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, Link{}, err
	}
	c, err := Open(f)
	if err != nil {
		f.Close()
		return nil, Link{}, err
	}
	defer c.Close()
	l, err := c.ByParent(device)
	if err != nil {
		f.Close()
		return nil, Link{}, err
	}
	return f, l, nil
}
