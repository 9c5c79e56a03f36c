// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// Scratch is a temporary directory that disappears with the process that made
// it. Remove deletes it; what a killed process left behind is deleted by the
// next NewScratch with the same parent.
type Scratch struct {
	Dir    string
	parent string
	lock   *flock.Flock
}

// NewScratch creates parent/name-XXXX and removes the remains of dead processes
// from parent.
func NewScratch(parent, name string) (*Scratch, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	unlock, err := guard(parent)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := sweep(parent); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(parent, name+"-")
	if err != nil {
		return nil, err
	}
	s := &Scratch{Dir: dir, parent: parent, lock: flock.New(filepath.Join(dir, ".lock"))}
	if got, err := s.lock.TryLock(); err != nil || !got {
		return nil, errors.Join(fmt.Errorf("lock new directory %s", dir), err)
	}
	return s, nil
}

// Remove deletes the directory. It is safe to call more than once.
func (s *Scratch) Remove() error {
	unlock, err := guard(s.parent)
	if err != nil {
		return err
	}
	defer unlock()
	return errors.Join(os.RemoveAll(s.Dir), s.lock.Close())
}

// guard locks parent: between the making of a directory and its lock, sweep would take it
// for a dead process's.
func guard(parent string) (unlock func(), err error) {
	l := flock.New(filepath.Join(parent, ".lock"))
	if err := l.Lock(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", parent, err)
	}
	return func() { l.Close() }, nil
}

// sweep removes the directories whose owner is dead: nobody holds their lock.
func sweep(parent string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir := filepath.Join(parent, e.Name())
		l := flock.New(filepath.Join(dir, ".lock"))
		if got, err := l.TryLock(); err == nil && !got {
			continue
		}
		err := os.RemoveAll(dir)
		l.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
