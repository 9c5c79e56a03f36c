// SPDX-License-Identifier: Apache-2.0

package tiers_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/tiers"
)

// TestRunFuzz has one target that holds, one that finds its input at once, and one that
// does not end.
func TestRunFuzz(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.work":       "go 1.26.0\n\nuse ./lib\n",
		"lib/go.mod":    "module " + house + "lib\n\ngo 1.26.0\n",
		"lib/x_test.go": "package lib\n\nimport \"testing\"\n\nfunc FuzzHolds(f *testing.F) { f.Fuzz(func(*testing.T, []byte) {}) }\n\nfunc FuzzBreaks(f *testing.F) {\n\tf.Add(\"bad\")\n\tf.Fuzz(func(t *testing.T, s string) {\n\t\tif s == \"bad\" {\n\t\t\tt.Error(\"found\")\n\t\t}\n\t})\n}\n\nfunc FuzzHangs(f *testing.F) { f.Fuzz(func(*testing.T, []byte) { for {} }) }\n",
		"Makefile":      "",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	functions, err := tiers.Load(t.Context(), dir)
	require.NoError(t, err)
	finite := slices.DeleteFunc(slices.Clone(functions), func(f tiers.Function) bool { return f.Name == "FuzzHangs" })
	var out strings.Builder
	err = tiers.RunFuzz(t.Context(), dir, finite, time.Second, 5*time.Minute, 1, &out)
	require.EqualError(t, err, "fuzz targets failed: "+house+"lib FuzzBreaks")
	require.Contains(t, out.String(), "found")
	require.Contains(t, out.String(), "ok  \t"+house+"lib\tFuzzHolds\n")

	hangs := slices.DeleteFunc(functions, func(f tiers.Function) bool { return f.Name != "FuzzHangs" })
	err = tiers.RunFuzz(t.Context(), dir, hangs, time.Second, time.Second, 1, &out)
	require.EqualError(t, err, "fuzz targets failed: "+house+"lib FuzzHangs")
	require.Contains(t, out.String(), "lib FuzzHangs: still running 1s after its time was over\n")
}
