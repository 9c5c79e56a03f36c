// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/netns"
	"github.com/sriovkit/sriovkit/e2e/process"
)

// TestThreadsComeHome: no thread stays in a namespace, the program's first neither, which
// never ends and is what /proc/PID stands for.
func TestThreadsComeHome(t *testing.T) {
	if netns.Check() != nil {
		t.Skip("needs root, to make network namespaces")
	}
	home, err := os.Readlink("/proc/self/ns/net")
	require.NoError(t, err)
	for range 30 { // one of them meets the first thread
		ns, err := netns.New(t.Context())
		require.NoError(t, err)
		there := ""
		require.NoError(t, ns.Do(func() (err error) {
			there, err = os.Readlink("/proc/thread-self/ns/net")
			return err
		}))
		require.NotEqual(t, home, there)
		cmd := exec.Command("true")
		require.NoError(t, process.Start(cmd, ns.File))
		require.NoError(t, cmd.Wait())
		require.NoError(t, ns.Close())
	}
	links, err := filepath.Glob("/proc/self/task/*/ns/net")
	require.NoError(t, err)
	for _, link := range links {
		if there, err := os.Readlink(link); err == nil { // else the thread has ended
			require.Equal(t, home, there, link)
		}
	}
}
