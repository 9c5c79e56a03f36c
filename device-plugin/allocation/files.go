// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// replaceFile is WriteFile where something would change.
func replaceFile(path string, data []byte, mode fs.FileMode) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return WriteFile(path, data, mode)
}

// WriteFile writes a file so that a reader sees the old contents or the new, whole. It is
// not synced to disk, because a container waits for it, and all that is written this way is
// below /run or can be made again. The name of an unfinished file begins with ".tmp-".
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), temporary+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// temporary is how the names of unfinished files begin, also of those that a crash left.
const temporary = ".tmp-"

// removeTemporary removes files that were never finished. Their names begin so.
func removeTemporary(dir, prefix string) {
	left, _ := filepath.Glob(filepath.Join(dir, temporary+prefix+"*")) // the pattern is good
	for _, path := range left {
		_ = os.Remove(path) // what cannot be removed is in nobody's way
	}
}

// publicDir makes a directory that others read, whatever the umask is.
func publicDir(dir string) error {
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := publicDir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(dir, 0o755)
}
