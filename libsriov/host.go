// SPDX-License-Identifier: Apache-2.0

package libsriov

import (
	"fmt"
	"os"

	"github.com/sriovkit/sriovkit/libsriov/internal/sysfs"
)

// Host reads and changes the PCI functions of one machine. It holds no state
// and may be used by several goroutines at once.
type Host struct {
	fs *sysfs.FS
}

// Open binds a Host to the directory that holds sys, dev and proc: "/" on a
// node, the node's root mounted in a container, a captured tree in a test. It
// fails if root has no sys/bus/pci.
func Open(root string) (*Host, error) {
	h := New(sysfs.New(root))
	if _, err := os.Stat(h.fs.Path("sys/bus/pci")); err != nil {
		return nil, fmt.Errorf("open host at %s: %w", root, err)
	}
	return h, nil
}

// New is Open for a file system that this module made: tests pass one whose writes do what the
// kernel would.
func New(fs *sysfs.FS) *Host { return &Host{fs: fs} }

// Events is how many device events the kernel has sent since it booted
// (/sys/kernel/uevent_seqnum). Whoever reads it and then looks has seen what events up
// to that number tell of, see package event.
func (h *Host) Events() (uint64, error) {
	n, err := h.fs.Int("sys/kernel/uevent_seqnum")
	return uint64(max(0, n)), err
}

// device is the path of an attribute of a PCI function.
func device(a Address, attr string) string {
	return "sys/bus/pci/devices/" + a.String() + "/" + attr
}
