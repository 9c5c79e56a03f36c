// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/artifact"
)

func TestTally(t *testing.T) {
	t.Parallel()
	const node = `nodes are emulated, as this machine has no /dev/kvm
libsriov: up after 6.1s, kernel 6.1.0-57-amd64, 2 igb ports, emulated
libsriov: === RUN   TestNodeA
libsriov: --- PASS: TestNodeA (0.01s)
libsriov:     --- PASS: TestNodeA/b (0.01s)
libsriov: --- FAIL: TestNodeB (0.01s)
--- FAIL: TestNodeSuites (0.01s)
    --- FAIL: TestNodeSuites/libsriov (0.01s)
`
	for _, tc := range []struct {
		top           bool
		text, verdict string
	}{
		{false, node, "1 of 2, not TestNodeB"},
		{true, "node1: up after 6.1s, kernel 6.1.0-57-amd64, 2 igb ports, emulated\n--- PASS: TestClusterVFs (9s)\n    --- FAIL: TestClusterVFs/x (9s)\n", "1"},
	} {
		counted := &tally{top: tc.top}
		for text := strings.NewReader(tc.text); ; {
			if _, err := io.CopyN(counted, text, 7); err != nil {
				break
			}
		}
		require.Equal(t, tc.verdict, counted.verdict())
		require.Equal(t, "6.1.0-57-amd64", counted.kernel)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	failed := exec.Command("false").Run()
	require.NoError(t, (&tally{passed: 1, failed: []string{"TestNodeA"}}).judge(t.Context(), failed))
	require.NoError(t, (&tally{passed: 1}).judge(t.Context(), nil))
	require.ErrorContains(t, (&tally{passed: 1}).judge(t.Context(), failed), "exit status 1, and of 1 tests none has failed: others did not end")
	require.ErrorContains(t, (&tally{}).judge(t.Context(), failed), "exit status 1")
	require.ErrorContains(t, (&tally{}).judge(t.Context(), nil), "no test ran")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, (&tally{passed: 1, failed: []string{"TestNodeA"}}).judge(ctx, failed), context.Canceled)
}

// TestRun: what other suites came to is told beside one that did not end.
func TestRun(t *testing.T) {
	setVersions(t)
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "e2e"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go"), []byte(`#!/bin/sh
case "$*" in
*"-suite good -profile qede") echo "good: up after 1s, kernel 6.1.0-1, 2 igb ports"; echo "good: --- PASS: TestNodeA (0s)" ;;
*) echo "bad: --- PASS: TestNodeB (0s)"; exit 1 ;;
esac
`), 0o700))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	p := Plan{Checkout: dir, Suites: []string{"bad", "good"}, Out: io.Discard}
	row, err := p.Run(t.Context(), Combination{Kernel: "6.1", Profile: "qede"})
	require.ErrorContains(t, err, "suite bad: exit status 1, and of 1 tests none has failed")
	require.Equal(t, "good 1", row.Node)
	require.Equal(t, "6.1.0-1", row.Kernel)
	require.Equal(t, "igb as qede", row.NIC)
}

// setVersions brings the versions back that a combination chooses.
func setVersions(t *testing.T) {
	for _, v := range []string{artifact.KernelVariable, artifact.KubernetesVariable, artifact.ContainerdVariable} {
		t.Setenv(v, "")
	}
}

func TestCheck(t *testing.T) {
	setVersions(t)
	c := Combination{Kernel: "6.1", Kubernetes: "1.34", Containerd: "1.7", Profile: "qede"}
	require.NoError(t, c.Check(t.Context()))
	require.Equal(t, "kernel 6.1, Kubernetes 1.34, containerd 1.7, NIC qede", c.String())
	require.Equal(t, "the default versions", Combination{}.String())
	require.ErrorContains(t, Combination{Profile: "mlx9"}.Check(t.Context()), "mlx9")
	require.ErrorContains(t, Combination{Kernel: "5"}.Check(t.Context()), `SRIOVKIT_KERNEL is "5", want one of 6.1, `)
	require.ErrorContains(t, Combination{Kubernetes: "1.3"}.Check(t.Context()), `SRIOVKIT_KUBERNETES is "1.3", want one of 1.34, `)
	require.ErrorContains(t, Combination{Kubernetes: "1.34", Containerd: "1.6"}.Check(t.Context()), `SRIOVKIT_CONTAINERD is "1.6", want one of 1.7, `)
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	old := Row{Kernel: "6.12.94+deb12-amd64", Kubernetes: "v1.37.2", Containerd: "v2.4.2", Cluster: "3", Date: "2026-01-01"}
	other := Row{Kernel: "6.1.0-57-amd64", Node: "libsriov 40", Date: "2026-01-02"}
	text, err := update("a\n"+begin+end+"z\n", []Row{old, other})
	require.NoError(t, err)
	require.Equal(t, "a\n"+begin+head+old.String()+other.String()+end+"z\n", text)

	newer := old
	newer.Kernel, newer.Date = "6.12.117+deb12-amd64", "2026-02-02"
	text, err = update(text, []Row{newer})
	require.NoError(t, err)
	require.Equal(t, "a\n"+begin+head+newer.String()+other.String()+end+"z\n", text)

	nic := Row{Kernel: other.Kernel, NIC: "igb as qede", Node: "operator 9", Date: "2026-03-03"}
	beside, err := update(text, []Row{nic})
	require.NoError(t, err)
	require.Contains(t, beside, other.String()+nic.String(), "another NIC is another row")

	fewer := Row{Kernel: other.Kernel, Node: "device-plugin 6", Date: "2026-03-03"}
	text, err = update(text, []Row{fewer})
	require.NoError(t, err)
	fewer.Node = "device-plugin 6; libsriov 40 (2026-01-02)"
	require.Equal(t, "a\n"+begin+head+newer.String()+fewer.String()+end+"z\n", text)
	again := Row{Kernel: other.Kernel, Node: "device-plugin 7", Date: "2026-04-04"}
	require.Equal(t, "device-plugin 7; libsriov 40 (2026-01-02)", again.with(fewer).Node)
	require.Equal(t, "device-plugin 6 (2026-03-03); libsriov 40 (2026-01-02)", Row{Kernel: other.Kernel}.with(fewer).Node)
	again.Kernel = "6.1.0-58-amd64"
	require.Equal(t, "device-plugin 7", again.with(fewer).Node, "another kernel")

	for _, bad := range []string{"", begin, end + begin, begin + "| a |\n" + end} {
		_, err := update(bad, nil)
		require.Error(t, err, bad)
	}
}
