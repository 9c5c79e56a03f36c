// SPDX-License-Identifier: Apache-2.0

package conformance_test

import (
	"bytes"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestNodeConformanceInterrupted stops the kit in the middle: the PF is as it was, and the
// plugin keeps nothing.
func TestNodeConformanceInterrupted(t *testing.T) {
	pf := pfOf(t, "igb")
	sriov, err := exec.LookPath("sriov")
	require.NoError(t, err)
	atOnce := func() bool { return true }
	recorded := func() bool { // in the middle of an ADD
		files, err := filepath.Glob("/var/lib/cni/sriov/vf/*.json")
		return err == nil && len(files) > 0
	}
	for name, tc := range map[string]struct {
		at    string // a check
		begun func() bool
		stop  func(*exec.Cmd, io.Closer) error
	}{
		"by a signal": {"VLANs keep", atOnce, func(kit *exec.Cmd, _ io.Closer) error { return kit.Process.Signal(syscall.SIGINT) }},
		"while the plugin runs, by Ctrl-C": {"plugin: DEL after kills", recorded, func(kit *exec.Cmd, _ io.Closer) error {
			return syscall.Kill(-kit.Process.Pid, syscall.SIGINT)
		}},
		"by the end of who reads": {"VLANs keep", atOnce, func(_ *exec.Cmd, stderr io.Closer) error { return stderr.Close() }},
	} {
		t.Run(name, func(t *testing.T) {
			before := tree(t, pf)
			cmd := exec.Command("sriov-conformance", "-pf", pf.String(), "-yes", "-plugin", sriov, "-only", tc.at, "-kills", "100")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			stderr, err := cmd.StderrPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			var said bytes.Buffer
			for !strings.Contains(said.String(), tc.at) {
				part := make([]byte, 512)
				n, err := stderr.Read(part)
				require.NoError(t, err, "%s", &said)
				said.Write(part[:n])
			}
			require.Eventually(t, tc.begun, time.Minute, time.Millisecond)
			require.NoError(t, tc.stop(cmd, stderr))
			_, _ = said.ReadFrom(stderr)
			require.Error(t, cmd.Wait())
			require.Equal(t, 1, cmd.ProcessState.ExitCode(), "%s", &said)
			require.Equal(t, before, tree(t, pf))
		})
	}
}
