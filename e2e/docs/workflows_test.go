// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Workflows name targets of make that there are. One that pipes commands names its shell:
// without a name a step goes on after a command whose output goes into a pipe has failed.
func TestWorkflows(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile(filepath.Join(top, "Makefile"))
	require.NoError(t, err)
	paths, err := filepath.Glob(filepath.Join(top, ".github/workflows/*.yml"))
	require.NoError(t, err)
	targets := 0
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, command := range regexp.MustCompile(`(?m)^\s*(?:- run: )?make (.+)$`).FindAllStringSubmatch(string(text), -1) {
			for _, word := range strings.Fields(command[1]) {
				if !regexp.MustCompile(`^[a-z-]+$`).MatchString(word) {
					break
				}
				require.Regexp(t, `(?m)^`+word+`:`, string(makefile), path)
				targets++
			}
		}
		if strings.Contains(string(text), " | ") {
			require.Contains(t, string(text), "\ndefaults:\n  run: {shell: bash}", path)
		}
	}
	require.Greater(t, targets, 5)
}
