// SPDX-License-Identifier: Apache-2.0

// Package file opens files that never make a reader wait: state, sysfs, sysctls,
// namespaces.
package file

import (
	"errors"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Open is os.OpenFile, but that one asks the poller of the Go runtime to watch each
// of them, which costs five system calls a file and a thread that waits. O_NONBLOCK is for
// opening alone: os.NewFile, too, has a file watched that has it.
func Open(path string, flags int, perm uint32) (*os.File, error) {
	fd, err := OpenFD(path, flags, perm)
	if err == nil && flags&unix.O_NONBLOCK != 0 {
		err = os.NewSyscallError("fcntl", unix.SetNonblock(fd, false))
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// OpenFD is Open for a descriptor that is never closed.
func OpenFD(path string, flags int, perm uint32) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, perm)
		switch {
		case err == nil:
			return fd, nil
		case !errors.Is(err, unix.EINTR):
			return -1, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// longest is how much Read reads: more than any state file, configuration or record of kubelet has.
const longest = 64 << 20 // bytes

// Read is os.ReadFile by way of OpenFD. The error is EFBIG for what is no file of a reasonable
// size, such as a device.
func Read(path string) ([]byte, error) {
	fd, err := OpenFD(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 4<<10)
	for len(b) <= longest {
		b = slices.Grow(b, 1)
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return b, &fs.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return b, nil
		default:
			b = b[:len(b)+n]
		}
	}
	return b, &fs.PathError{Op: "read", Path: path, Err: unix.EFBIG}
}

// Create writes a file that may be there already.
func Create(path string, b []byte) error {
	f, err := Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// Same reports whether an open file is the one that path leads to.
func Same(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}
