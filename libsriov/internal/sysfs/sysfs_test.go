// SPDX-License-Identifier: Apache-2.0

package sysfs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov/internal/sysfs"
)

func tree(t *testing.T, files map[string]string) *sysfs.FS {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	return sysfs.New(dir)
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	f := tree(t, map[string]string{"a": " igb\n", "n": "-1\n", "empty": "", "word": "x", "page": strings.Repeat("p", 5000)})
	a, err := f.Attr("a")
	require.NoError(t, err)
	assert.Equal(t, "igb", a)
	n, err := f.Int("n")
	require.NoError(t, err)
	assert.Equal(t, -1, n)
	for _, bad := range []string{"empty", "word"} {
		_, err := f.Int(bad)
		assert.ErrorContains(t, err, "is not a number")
		assert.ErrorContains(t, err, f.Path(bad))
	}
	page, err := f.Attr("page")
	require.NoError(t, err)
	assert.Len(t, page, 4096, "an attribute is one page at most")
	_, err = f.Attr("missing")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, err = f.Attr(".")
	assert.ErrorIs(t, err, syscall.EISDIR)
	_, ok, err := f.OptionalAttr("missing")
	require.NoError(t, err)
	assert.False(t, ok)
}

func TestLinks(t *testing.T) {
	t.Parallel()
	f := tree(t, nil)
	require.NoError(t, os.Symlink("../../drivers/igb", f.Path("driver")))
	base, ok, err := f.LinkBase("driver")
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, "igb", base)
	_, ok, err = f.LinkBase("missing")
	require.NoError(t, err)
	assert.False(t, ok)
	assert.False(t, f.Exists("driver"), "dangles")
}

func TestNames(t *testing.T) {
	t.Parallel()
	f := tree(t, map[string]string{"b": "", "a": ""})
	names, err := f.Names(".")
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b"}, names)
	names, err = f.Names("missing")
	require.NoError(t, err)
	assert.Empty(t, names)
	_, err = f.Names("a")
	assert.ErrorIs(t, err, syscall.ENOTDIR)
}

// A write must neither create a file nor cut one: an attribute is either there
// or an error.
func TestWrite(t *testing.T) {
	t.Parallel()
	f := tree(t, map[string]string{"a": "xxxx"})
	require.NoError(t, f.Write("a", "1"))
	a, err := f.Attr("a")
	require.NoError(t, err)
	assert.Equal(t, "1xxx", a)
	err = f.Write("missing", "1")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.NoFileExists(t, f.Path("missing"))
}
