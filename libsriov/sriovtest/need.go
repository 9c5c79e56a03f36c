// Package sriovtest helps tests of code that stands on libsriov: host trees to
// read, captured from real machines or generated; a kernel's part played on
// such a tree; and a way to say that a test needs the emulated node.
package sriovtest

import (
	"os"
	"testing"
)

// NeedNode skips a test outside the emulated node, where its igb, igbvf, vfio,
// netdevsim and vdpa_sim drivers are.
func NeedNode(t testing.TB) {
	t.Helper()
	if os.Getenv("SRIOVKIT_NODE") == "" {
		t.Skip("needs the emulated node: run it with make test-node")
	}
}
