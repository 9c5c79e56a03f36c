// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest/quirk"
)

// TestSummary feeds the output of test binaries in pieces of every size.
func TestSummary(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		output  string
		run     int
		skipped []string
		failed  []string
	}{
		"passed":   {output: "=== RUN   TestNodeA\n--- PASS: TestNodeA (0.01s)\nPASS\n", run: 1},
		"subtests": {output: "--- PASS: TestNodeA (0.01s)\n    --- PASS: TestNodeA/b (0.00s)\n--- PASS: TestNodeC (0.00s)\nPASS\n", run: 2},
		"failed": {
			output: "=== RUN   TestNodeA\n=== RUN   TestNodeA/b\n    x_test.go:1: b\n=== RUN   TestNodeA/c\n    x_test.go:2: c\n=== NAME  TestNodeA/b\n" +
				"    x_test.go:3: b\n--- FAIL: TestNodeA (0.00s)\n    --- FAIL: TestNodeA/b (0.00s)\n    --- PASS: TestNodeA/c (0.00s)\nFAIL\n",
			run: 1, failed: []string{"TestNodeA", "TestNodeA/b\n    x_test.go:1: b\n    x_test.go:3: b"},
		},
		"skipped":      {output: "--- SKIP: TestNodeA (0.00s)\n    x_test.go:1: why\n--- PASS: TestNodeB (0.00s)\n", run: 1, skipped: []string{"TestNodeA"}},
		"skipped part": {output: "--- PASS: TestNodeA (0.00s)\n    --- SKIP: TestNodeA/b (0.00s)\n", run: 1, skipped: []string{"TestNodeA/b"}},
		"nothing":      {output: "testing: warning: no tests to run\nPASS\n"},
		"early exit":   {output: "=== RUN   TestNodeA\nPASS\n"},
		"cut off":      {output: "--- PASS: TestNodeA (0.01s)\n--- PASS: TestNodeB (0.01s)", run: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for size := 1; size <= len(tc.output); size++ {
				var sum summary
				w := lineWriter{each: sum.count}
				for rest := tc.output; rest != ""; rest = rest[min(size, len(rest)):] {
					_, err := w.Write([]byte(rest[:min(size, len(rest))]))
					require.NoError(t, err)
				}
				w.flush()
				require.Equal(t, tc.run, sum.run, "in pieces of %d", size)
				require.Equal(t, tc.skipped, sum.skipped, "in pieces of %d", size)
				require.Equal(t, tc.failed, sum.failed, "in pieces of %d", size)
			}
		})
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	require.NoError(t, summary{run: 2}.verdict(2))
	require.EqualError(t, summary{}.verdict(2), "0 tests ran, want 2")
	require.EqualError(t, summary{run: 1, skipped: []string{"TestNodeA", "TestNodeB/c"}}.verdict(2),
		"skipped on a node that has everything: TestNodeA, TestNodeB/c")
}

// TestSuites checks the table without booting anything.
func TestSuites(t *testing.T) {
	t.Parallel()
	checkout, err := component.Checkout(t.Context())
	require.NoError(t, err)
	names := map[string]bool{}
	for _, s := range All() {
		require.False(t, names[s.Name], "two suites are named %s", s.Name)
		names[s.Name] = true
		packages, err := s.packages(t.Context(), checkout)
		require.NoError(t, err, s.Name)
		for _, p := range s.Profiles {
			_, err := quirk.Named(p)
			require.NoError(t, err, s.Name)
		}
		dirs := map[string]bool{}
		for _, p := range packages {
			require.False(t, dirs[p.name], "two packages of %s are called %s", s.Name, p.name)
			dirs[p.name] = true
		}
		for name, pkg := range s.Binaries {
			list := exec.Command("go", "list", "-f", "{{.Name}}", pkg)
			list.Dir = filepath.Join(checkout, s.Dir)
			out, err := list.CombinedOutput()
			require.NoError(t, err, "%s of %s: %s", name, s.Name, out)
			require.Equal(t, "main\n", string(out), "%s of %s", name, s.Name)
		}
		for from := range s.Files {
			_, err := os.Stat(filepath.Join(checkout, s.Dir, from))
			require.NoError(t, err, s.Name)
		}
	}
}

func TestNoNodeTests(t *testing.T) {
	t.Parallel()
	_, err := Suite{Name: "x", Dir: "e2e/stage"}.packages(t.Context(), "../..")
	require.ErrorContains(t, err, "no package below")
	require.True(t, strings.HasSuffix(err.Error(), "declares a function TestNode…"), err)
}
