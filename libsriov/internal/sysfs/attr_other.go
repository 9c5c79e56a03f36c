// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package sysfs

import (
	"os"
	"strings"
)

// Attr reads an attribute and cuts the white space around it.
func (f *FS) Attr(p string) (string, error) {
	b, err := os.ReadFile(f.Path(p))
	return strings.TrimSpace(string(b)), err
}

// Link reads a symbolic link's target as it is written.
func (f *FS) Link(p string) (string, error) { return os.Readlink(f.Path(p)) }

// Exists reports whether something is at p, a link's target included.
func (f *FS) Exists(p string) bool {
	_, err := os.Stat(f.Path(p))
	return err == nil
}

// WriteAttr stores a value in a file that is there.
func (f *FS) WriteAttr(p, value string) error {
	file, err := os.OpenFile(f.Path(p), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := file.WriteString(value); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}
