// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

// Libraries are named by what was linked: a fork instead of what it replaces, but not the
// checkout's directory instead of a module.
func TestLibraries(t *testing.T) {
	t.Parallel()
	var purls []string
	for _, c := range librariesOf(program{Build: &debug.BuildInfo{GoVersion: "go1.26.0", Deps: []*debug.Module{
		{Path: "example.org/a", Version: "v1.0.0+incompatible", Sum: "h1:a="},
		{Path: "example.org/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.org/fork", Version: "v1.0.1"}},
		{Path: "example.org/c", Version: "v0.0.0", Replace: &debug.Module{Path: "../c"}},
	}}}) {
		require.Equal(t, c.BOMRef, c.PackageURL)
		purls = append(purls, c.PackageURL)
	}
	require.Equal(t, []string{
		"pkg:golang/std@1.26.0", "pkg:golang/example.org/a@v1.0.0%2Bincompatible", "pkg:golang/example.org/fork@v1.0.1", "pkg:golang/example.org/c@v0.0.0",
	}, purls)
}
