// SPDX-License-Identifier: Apache-2.0

package mounttest

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(Run(m)) }

// A mount is there for the test and not for the process that started it, so it is gone
// with the test, and the directory can be removed.
func TestMountIsOfTheTestAlone(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, 0)) })
	for pid, has := range map[int]bool{os.Getpid(): true, os.Getppid(): false} {
		mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
		require.NoError(t, err)
		if has {
			assert.Contains(t, string(mounts), dir)
		} else {
			assert.NotContains(t, string(mounts), dir)
		}
	}
}
