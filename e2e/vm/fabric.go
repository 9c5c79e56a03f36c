// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Fabric is a cable between the igb ports of two nodes.
type Fabric struct {
	mu   sync.Mutex
	next int
	ends [2]fabricEnd
}

type fabricEnd struct {
	side int // 0 or 1
	file *os.File
}

// NewFabric returns a cable whose two ends are taken by the next two nodes that
// are booted with it.
func NewFabric() (*Fabric, error) {
	files, err := socketPair("fabric")
	if err != nil {
		return nil, err
	}
	return &Fabric{ends: [2]fabricEnd{{0, files[0]}, {1, files[1]}}}, nil
}

// end takes the next end; nil has none.
func (f *Fabric) end() *fabricEnd {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	e := &f.ends[f.next%2]
	f.next++
	return e
}

// Close frees the ends. Nodes that were booted keep their own.
func (f *Fabric) Close() error {
	for _, e := range f.ends {
		if err := e.file.Close(); err != nil {
			return err
		}
	}
	return nil
}

func socketPair(name string) ([2]*os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return [2]*os.File{}, fmt.Errorf("socket pair: %w", err)
	}
	return [2]*os.File{os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)}, nil
}
