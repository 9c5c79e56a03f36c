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
	Dir  string
	lock *flock.Flock
}

// NewScratch creates parent/name-XXXX and removes the remains of dead processes
// from parent.
func NewScratch(parent, name string) (*Scratch, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	// Creating a directory and locking it are two steps; the sweep must not come between them.
	guard := flock.New(filepath.Join(parent, ".lock"))
	if err := guard.Lock(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", parent, err)
	}
	defer guard.Close()
	if err := sweep(parent); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(parent, name+"-")
	if err != nil {
		return nil, err
	}
	s := &Scratch{Dir: dir, lock: flock.New(filepath.Join(dir, ".lock"))}
	if got, err := s.lock.TryLock(); err != nil || !got {
		return nil, errors.Join(fmt.Errorf("lock new directory %s", dir), err)
	}
	return s, nil
}

// Remove deletes the directory.
func (s *Scratch) Remove() error {
	return errors.Join(os.RemoveAll(s.Dir), s.lock.Close())
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
