// SPDX-License-Identifier: Apache-2.0

package sriovtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/internal/sysfs"
)

// Generated is a Host on a tree that Generate describes.
func Generated(t testing.TB, s Spec) *libsriov.Host {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, Unpack(dir, Generate(s)))
	h, err := libsriov.Open(dir)
	require.NoError(t, err)
	return h
}

// Refusing is a Host on the tree at root whose attribute writes are handed to
// write instead of the tree, so that a test can refuse them as a kernel would.
// Paths are relative to root.
func Refusing(root string, write func(path, value string) error) *libsriov.Host {
	return libsriov.New(&sysfs.FS{Root: root, Write: write})
}
