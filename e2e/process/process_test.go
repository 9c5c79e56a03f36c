// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/netns"
	"github.com/sriovkit/sriovkit/e2e/process"
)

// TestStartSurvivesThreads ends the thread of the caller: the program must not
// be killed with it.
func TestStartSurvivesThreads(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "1000")
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with this goroutine
		done <- process.Start(cmd, nil)
	}()
	require.NoError(t, <-done)
	time.Sleep(100 * time.Millisecond)
	require.NoError(t, cmd.Process.Signal(os.Interrupt), "still there")
	require.ErrorContains(t, cmd.Wait(), "signal: interrupt")
}

// TestInterruptible: what a program has made elsewhere is gone with it, also what its children
// have made.
func TestInterruptible(t *testing.T) {
	t.Parallel()
	made := filepath.Join(t.TempDir(), "made")
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "sh", "-c", `sh -c 'trap "rm $0; exit 1" INT; touch $0; while :; do sleep 0.01; done' $0; exit 1`, made)
	process.Interruptible(cmd)
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { _, err := os.Stat(made); return err == nil }, 5*time.Minute, time.Millisecond)
	cancel()
	require.Error(t, cmd.Wait())
	require.NoFileExists(t, made)
}

func TestDaemonErr(t *testing.T) {
	t.Parallel()
	d, err := process.StartDaemon("sh", t.TempDir(), exec.Command("sh", "-c", "echo the reason; exit 4"), nil)
	require.NoError(t, err)
	require.ErrorContains(t, d.Err(), "sh ended: exit status 4")
	require.ErrorContains(t, d.Err(), "the reason")
}

func TestStartMissingProgram(t *testing.T) {
	t.Parallel()
	_, err := process.StartDaemon("x", t.TempDir(), exec.Command("/no/such/program"), nil)
	require.ErrorContains(t, err, "start x: ")
}

// TestNetns checks both ways into a namespace: for a program and for a socket.
func TestNetns(t *testing.T) {
	t.Parallel()
	ns, err := netns.New(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ns.Close()) })
	out := filepath.Join(t.TempDir(), "out")
	cmd := exec.Command("sh", "-c", "ls /proc/self/net/dev && tail -n +3 /proc/self/net/dev >"+out)
	require.NoError(t, process.Start(cmd, ns.File))
	require.NoError(t, cmd.Wait())
	text, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Regexp(t, `^\s*lo:.*\n$`, string(text), "nothing but loopback")
	_, err = ns.DialContext(t.Context(), "tcp", "192.0.2.1:1")
	require.ErrorContains(t, err, "network is unreachable")
	require.ErrorContains(t, ns.IP(t.Context(), "link", "set", "nosuch", "up"), "nosuch")
}

func TestScratch(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	mine, err := process.NewScratch(parent, "a")
	require.NoError(t, err)
	dead := filepath.Join(parent, "b-123")
	require.NoError(t, os.MkdirAll(filepath.Join(dead, "sub"), 0o755))

	other, err := process.NewScratch(parent, "a")
	require.NoError(t, err)
	require.DirExists(t, mine.Dir, "its owner lives")
	require.NoDirExists(t, dead, "its owner is dead: nobody holds its lock")
	require.NoError(t, other.Remove())
	require.NoDirExists(t, other.Dir)
	require.NoError(t, mine.Remove())
	require.NoError(t, mine.Remove(), "again")
}

func TestTail(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	require.Contains(t, process.Tail(path), "no such file")
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("x", 1<<20)+"\n"+strings.Repeat("y\n", 40)), 0o600))
	require.Equal(t, "end of "+path+":"+strings.Repeat("\n\ty", 25), process.Tail(path))
}
