// SPDX-License-Identifier: Apache-2.0

package multusshim

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/multus-shim/nad"
)

// Networks in the README are good ones.
func TestExamples(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^spec: \{config: '(.*)'\}$`).FindAllSubmatch(text, -1)
	require.NotEmpty(t, found)
	for _, example := range found {
		_, err := nad.Parse(example[1], "storage")
		require.NoError(t, err, "%s", example[1])
	}
}
