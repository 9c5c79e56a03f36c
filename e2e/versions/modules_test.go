// SPDX-License-Identifier: Apache-2.0

package versions_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEveryModuleIsTidied: make check compares every go.mod of the repository with what go
// mod tidy would write, by the lists of modules at the top of the Makefile; make test-alerts
// does so for its own, which needs none of the others and all that promtool's tests need.
func TestEveryModuleIsTidied(t *testing.T) {
	t.Parallel()
	const checkout = "../.."
	makefile, err := os.ReadFile(filepath.Join(checkout, "Makefile"))
	require.NoError(t, err)
	var listed []string
	for _, list := range regexp.MustCompile(`(?m)^(?:MODULES|NESTED|PINS) := (.*)$`).FindAllStringSubmatch(string(makefile), -1) {
		listed = append(listed, strings.Fields(list[1])...)
	}
	var modules []string
	require.NoError(t, filepath.WalkDir(checkout, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git" || path == filepath.Join(checkout, "bin")):
			return filepath.SkipDir
		case d.Name() == "go.mod":
			dir, err := filepath.Rel(checkout, filepath.Dir(path))
			modules = append(modules, dir)
			return err
		}
		return nil
	}))
	require.ElementsMatch(t, modules, listed)
}
