package plugin

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Several processes fill the log: no line is lost or cut while files are left
// over to keep it, and no file grows past the bound by more than a line each.
func TestLogFile(t *testing.T) {
	t.Parallel()
	const processes, lines = 4, 20
	path := filepath.Join(t.TempDir(), "made", "sriov.log")
	line := strings.Repeat("x", 99)
	var group sync.WaitGroup
	for p := range processes {
		group.Go(func() {
			for i := range lines { // each line is of a process of its own
				l := &logFile{path: path, full: 2000}
				_, err := fmt.Fprintf(l, "%d %02d %s\n", p, i, line)
				assert.NoError(t, err)
				assert.NoError(t, l.open.Close())
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
		l := &logFile{path: path, full: 1}
		_, err := fmt.Fprintln(l, i)
		require.NoError(t, err)
		require.NoError(t, l.open.Close())
	}
	for i := range logKept {
		b, err := os.ReadFile(fmt.Sprintf("%s.%d", path, i+1))
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprintln(3*logKept-2-i), string(b))
	}
	assert.NoFileExists(t, fmt.Sprintf("%s.%d", path, logKept+1))
}
