// SPDX-License-Identifier: Apache-2.0

//go:build unix

package sysfs

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Attr reads an attribute and cuts the white space around it.
func (f *FS) Attr(p string) (string, error) {
	full := f.Path(p)
	fd, err := open(full, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	var buf [maxAttr]byte
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(fd, buf[:]) })
	_ = unix.Close(fd) // opened for reading: nothing to lose
	if err != nil {
		return "", &fs.PathError{Op: "read", Path: full, Err: err}
	}
	return strings.TrimSpace(string(buf[:n])), nil
}

// Link reads a symbolic link's target as it is written.
func (f *FS) Link(p string) (string, error) {
	full := f.Path(p)
	var buf [1024]byte
	n, err := ignoringEINTR(func() (int, error) { return unix.Readlink(full, buf[:]) })
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: full, Err: err}
	}
	return string(buf[:n]), nil
}

// Exists reports whether something is at p, a link's target included.
func (f *FS) Exists(p string) bool {
	return unix.Access(f.Path(p), unix.F_OK) == nil
}

// WriteAttr stores value with one write(2), as the kernel wants it: no
// truncation, no creation.
func (f *FS) WriteAttr(p, value string) error {
	full := f.Path(p)
	fd, err := open(full, unix.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = ignoringEINTR(func() (int, error) { return unix.Write(fd, []byte(value)) })
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err != nil {
		return &fs.PathError{Op: "write " + strconv.Quote(value) + " to", Path: full, Err: err}
	}
	return nil
}

func open(path string, mode int) (int, error) {
	fd, err := ignoringEINTR(func() (int, error) { return unix.Open(path, mode|unix.O_CLOEXEC, 0) })
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
