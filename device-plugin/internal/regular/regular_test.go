// SPDX-License-Identifier: Apache-2.0

package regular_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/internal/regular"
	"github.com/stretchr/testify/require"
)

func TestRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(in("file"), []byte("text"), 0o600))
	require.NoError(t, os.Symlink("file", in("link")))
	require.NoError(t, syscall.Mkfifo(in("pipe"), 0o600))
	require.NoError(t, os.Symlink("pipe", in("to a pipe")))
	require.NoError(t, os.WriteFile(in("endless"), nil, 0o600))
	require.NoError(t, os.Truncate(in("endless"), 1<<40))
	for _, name := range []string{"file", "link"} {
		got, err := regular.Read(in(name), 4)
		require.NoError(t, err)
		require.Equal(t, "text", string(got))
	}
	for name, want := range map[string]string{
		"file": "more than 3", "endless": "more than 3", "pipe": "no regular file", "to a pipe": "no regular file", ".": "is a directory",
	} {
		_, err := regular.Read(in(name), 3)
		require.ErrorContains(t, err, want, name)
	}
	_, err := regular.Read("/dev/zero", 3)
	require.ErrorContains(t, err, "no regular file")
	_, err = regular.Read(in("absent"), 3)
	require.ErrorIs(t, err, fs.ErrNotExist)
}
