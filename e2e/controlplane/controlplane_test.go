// SPDX-License-Identifier: Apache-2.0

package controlplane_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/controlplane"
	"github.com/sriovkit/sriovkit/e2e/netns"
)

func start(t *testing.T, c controlplane.Config) *controlplane.ControlPlane {
	t.Helper()
	controlplane.Need(t)
	p, err := controlplane.Start(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

func kubectl(t *testing.T, p *controlplane.ControlPlane, args ...string) string {
	t.Helper()
	out, err := p.Kubectl(t.Context(), nil, args...)
	require.NoError(t, err)
	return out
}

// TestSideBySide starts two control planes in one network namespace and one in
// its own: the first two draw addresses, the third has the usual one.
func TestSideBySide(t *testing.T) {
	ns, err := netns.New(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ns.Close()) })
	for _, name := range []string{"a", "b", "c"} {
		c := controlplane.Config{Controllers: name == "c"}
		if name == "c" {
			c.Netns = ns
		}
		p := start(t, c)
		kubectl(t, p, "create", "configmap", name)
		require.Equal(t, "configmap/"+name, strings.TrimSpace(kubectl(t, p, "get", "configmap", "-o", "name",
			"--field-selector", "metadata.name!=kube-root-ca.crt")))
	}
}

func TestStartFails(t *testing.T) {
	controlplane.Need(t)
	_, err := controlplane.Start(t.Context(), controlplane.Config{ServerFlags: []string{"--no-such-flag"}})
	require.ErrorContains(t, err, "unknown flag: --no-such-flag")
}

// TestKilled kills the process that started a control plane in a way it cannot
// handle, and expects the programs to follow it.
func TestKilled(t *testing.T) {
	controlplane.Need(t)
	if os.Getenv("TEST_KILLED") == "1" {
		p, err := controlplane.Start(context.Background(), controlplane.Config{})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(os.Getenv("TEST_KILLED_FILE"), []byte(filepath.Dir(p.Kubeconfig)), 0o600))
		select {}
	}
	file := filepath.Join(t.TempDir(), "dir")
	child := exec.Command(os.Args[0], "-test.run", "^TestKilled$")
	child.Env = append(os.Environ(), "TEST_KILLED=1", "TEST_KILLED_FILE="+file)
	child.Stdout, child.Stderr = os.Stderr, os.Stderr
	require.NoError(t, child.Start())
	t.Cleanup(func() { child.Process.Kill() }) // if it is not killed below
	var dir []byte
	require.Eventually(t, func() bool {
		dir, _ = os.ReadFile(file)
		return len(dir) > 0
	}, 4*time.Minute, 50*time.Millisecond)
	require.NotEmpty(t, processesWith(t, string(dir)))
	require.NoError(t, child.Process.Kill())
	child.Wait() // says that it was killed
	require.EventuallyWithT(t, func(t *assert.CollectT) { require.Empty(t, processesWith(t, string(dir))) }, 5*time.Minute, 20*time.Millisecond)
	start(t, controlplane.Config{})
	require.NoDirExists(t, string(dir), "the next start removes what the killed one left")
}

// processesWith returns the processes whose command line contains text.
func processesWith(t require.TestingT, text string) []int {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	var pids []int
	for _, f := range files {
		line, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(line), text) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			require.NoError(t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}
