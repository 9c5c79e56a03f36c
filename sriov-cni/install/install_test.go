// SPDX-License-Identifier: Apache-2.0

package install_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/sriov-cni/install"
)

// TestCopyReplacesWhole reads a program over and over while two versions of it replace
// one another: it is always there, executable, and one of them from end to end.
func TestCopyReplacesWhole(t *testing.T) {
	versions := [][]byte{bytes.Repeat([]byte("old"), 1<<18), bytes.Repeat([]byte("newer"), 1<<18)}
	var files []string
	for _, content := range versions {
		file := filepath.Join(t.TempDir(), "sriov")
		require.NoError(t, os.WriteFile(file, content, 0o755))
		files = append(files, file)
	}
	dir := t.TempDir()
	to, err := install.Copy(files[0], dir)
	require.NoError(t, err)

	stop, copied := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				copied <- nil
				return
			default:
			}
			if _, err := install.Copy(files[i%2], dir); err != nil {
				copied <- err
				return
			}
		}
	}()
	for range 300 {
		got, err := os.ReadFile(to)
		require.NoError(t, err)
		require.True(t, bytes.Equal(got, versions[0]) || bytes.Equal(got, versions[1]), "%d bytes of neither version", len(got))
		info, err := os.Stat(to)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o755), info.Mode().Perm())
	}
	close(stop)
	require.NoError(t, <-copied)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "no temporary file stays")
}
