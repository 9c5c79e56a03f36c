// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sriovkit/sriovkit/sriov-cni/internal/file"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// openSmallLog opens a log that is full at a size.
func openSmallLog(t *testing.T, path string, full int64) *logFile {
	t.Helper()
	dir, err := file.Open(filepath.Dir(path), unix.O_DIRECTORY|unix.O_PATH, 0)
	require.NoError(t, err)
	l := &logFile{dir: dir, name: filepath.Base(path), full: full}
	require.NoError(t, l.usable())
	return l
}

func (l *logFile) close(t *testing.T) {
	t.Helper()
	assert.NoError(t, l.open.Close())
	assert.NoError(t, l.dir.Close())
}

// Several processes fill the log: no line is lost or cut while files are left
// over to keep it, and no file grows past the bound by more than a line each.
func TestLogFile(t *testing.T) {
	t.Parallel()
	const processes, lines = 4, 20
	path := filepath.Join(t.TempDir(), "sriov.log")
	line := strings.Repeat("x", 99)
	var group sync.WaitGroup
	for p := range processes {
		group.Go(func() {
			for i := range lines { // each line is of a process of its own
				l := openSmallLog(t, path, 2000)
				_, err := fmt.Fprintf(l, "%d %02d %s\n", p, i, line)
				assert.NoError(t, err)
				l.close(t)
			}
		})
	}
	group.Wait()
	seen := map[string]bool{}
	files, err := filepath.Glob(path + "*")
	require.NoError(t, err)
	require.Greater(t, len(files), 1)
	require.LessOrEqual(t, len(files), 1+logKept)
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		assert.Less(t, len(b), 2000+(1+processes)*120, f)
		for got := range strings.Lines(string(b)) {
			assert.True(t, strings.HasSuffix(got, " "+line+"\n"), "%q", got)
			seen[got] = true
		}
	}
	assert.Len(t, seen, processes*lines)
}

func TestLogFileIsBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sriov.log")
	for i := range 3 * logKept {
		l := openSmallLog(t, path, 1)
		_, err := fmt.Fprintln(l, i)
		require.NoError(t, err)
		l.close(t)
	}
	for i := range logKept {
		b, err := os.ReadFile(fmt.Sprintf("%s.%d", path, i+1))
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprintln(3*logKept-2-i), string(b))
	}
	assert.NoFileExists(t, fmt.Sprintf("%s.%d", path, logKept+1))
}

// A tenant names the log: nothing but regular files of the administrator's
// directory is ever opened or made.
func TestLogFileStaysBeneath(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	dir := filepath.Join(root, "log")
	for _, d := range []string{"log/sub", "elsewhere"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, d), 0o700))
	}
	require.NoError(t, os.Symlink(filepath.Join(root, "elsewhere"), filepath.Join(dir, "link")))
	require.NoError(t, os.Symlink("sub", filepath.Join(dir, "inside")))
	require.NoError(t, os.Symlink("real.log", filepath.Join(dir, "link.log")))
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	reader, err := os.OpenFile(filepath.Join(dir, "fifo"), os.O_RDWR|unix.O_NONBLOCK, 0) // so that it can be written to
	require.NoError(t, err)
	defer reader.Close()
	for path, made := range map[string]string{
		"a.log":                  "log/a.log",
		"sub/b.log":              "log/sub/b.log",
		dir + "/c.log":           "log/c.log",
		dir + "/sub/../d":        "log/d",
		dir + "//e":              "log/e",
		root + "/elsewhere":      "",
		"/etc/profile.d/x":       "",
		dir:                      "",
		dir + "x/a":              "",
		"..":                     "",
		"../elsewhere/x":         "",
		"sub/../../x":            "",
		".":                      "",
		"":                       "",
		"link/x":                 "",
		"inside/x":               "",
		"link.log":               "",
		"fifo":                   "",
		"sub":                    "",
		"new/x":                  "",
		"x\x00y":                 "",
		"/proc/self/fd/2":        "",
		strings.Repeat("x", 300): "",
	} {
		w, err := openLog(dir, path)
		if made == "" {
			assert.ErrorContains(t, err, "invalid logFile", "%q", path)
			continue
		}
		if assert.NoError(t, err, path) {
			l := w.(*logFile)
			_, err = fmt.Fprintln(l, "x")
			assert.NoError(t, err)
			l.close(t)
			assert.FileExists(t, filepath.Join(root, made))
		}
	}
	entries, err := os.ReadDir(filepath.Join(root, "elsewhere"))
	require.NoError(t, err)
	assert.Empty(t, entries)
	assert.NoDirExists(t, filepath.Join(dir, "new"))
	assert.NoFileExists(t, filepath.Join(dir, "real.log"))
}
