// SPDX-License-Identifier: Apache-2.0

// Package regular reads files that others write, in whose place there may be anything: a pipe
// keeps nobody waiting, and what has no end is not read.
package regular

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Open opens a regular file, through links. Anything else, and more bytes than limit, is an
// error.
func Open(path string, limit int64) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = &fs.PathError{Op: "read", Path: path, Err: syscall.EISDIR}
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is no regular file", path)
	case info.Size() > limit:
		err = fmt.Errorf("%s has %d bytes, more than %d", path, info.Size(), limit)
	}
	if err != nil {
		_ = f.Close() // it was read only
		return nil, err
	}
	return f, nil
}

// Read reads a file that Open opens.
func Read(path string, limit int64) ([]byte, error) {
	f, err := Open(path, limit)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
