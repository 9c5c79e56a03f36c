// SPDX-License-Identifier: Apache-2.0

// Package sysfs reads and writes kernel attributes below a root directory.
//
// A kernel attribute is a few bytes that one read(2) returns whole. Reading it with
// os.ReadFile costs about eight system calls (poller registration, stat, a second read for
// EOF); this package makes three: open, read, close. A snapshot of a host with a thousand VFs
// reads some two thousand attributes.
package sysfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// maxAttr is the largest attribute the kernel hands out: one page
// (https://docs.kernel.org/filesystems/sysfs.html).
const maxAttr = 4096

// FS is a directory that holds sys, proc and dev: "/" on a node, a bind mount
// of it in a container, a captured tree in a test. Paths given to its methods
// are relative to Root.
type FS struct {
	Root string
	// Write stores a value in an attribute: WriteAttr, unless a test replaces it to do what
	// the kernel would.
	Write func(path, value string) error
}

// New returns the file system rooted at root that writes to real attributes.
func New(root string) *FS {
	f := &FS{Root: strings.TrimRight(root, "/")}
	f.Write = f.WriteAttr
	return f
}

// Path is p with the root before it.
func (f *FS) Path(p string) string { return f.Root + "/" + p }

// Int reads an attribute that holds one decimal number.
func (f *FS) Int(p string) (int, error) {
	s, err := f.Attr(p)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, &fs.PathError{Op: "parse", Path: f.Path(p), Err: fmt.Errorf("%.40q is not a number", s)}
	}
	return n, nil
}

// OptionalAttr is Attr where "the kernel does not say" is an answer: ok is
// false if the attribute is missing or the driver does not support it.
func (f *FS) OptionalAttr(p string) (value string, ok bool, err error) {
	value, err = f.Attr(p)
	if Unsaid(err) {
		return "", false, nil
	}
	return value, err == nil, err
}

// Unsaid reports whether err means that the kernel has nothing to say about an
// attribute, as opposed to a failure to find out.
func Unsaid(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EINVAL)
}

// LinkBase is the last element of a link's target, which is how sysfs names
// the object at the other end. ok is false if there is no such link.
func (f *FS) LinkBase(p string) (base string, ok bool, err error) {
	target, err := f.Link(p)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	return target[strings.LastIndexByte(target, '/')+1:], true, nil
}

// Names lists a directory in lexical order. A missing directory has no names.
func (f *FS) Names(p string) ([]string, error) {
	d, err := os.Open(f.Path(p))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	// A directory of a device that goes away while it is read.
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	slices.Sort(names)
	return names, err
}
