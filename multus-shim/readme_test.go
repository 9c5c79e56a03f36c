// SPDX-License-Identifier: Apache-2.0

package multusshim

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
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

// The defaults of the table are the program's: to write them changes nothing.
func TestDefaultsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/configuration.md")
	require.NoError(t, err)
	config := map[string]any{"cniVersion": "1.0.0", "name": "multus", "type": "multus-shim", "clusterNetwork": "net"}
	bare, err := json.Marshal(config)
	require.NoError(t, err)
	table, _, _ := strings.Cut(string(text), "\n## Annotations")
	count := 0
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\| (.*?) \\|").FindAllStringSubmatch(table, -1) {
		keys, values := strings.Split(row[1], ", "), strings.Split(row[2], ", ")
		if len(keys) != len(values) {
			continue // one of a choice is required
		}
		for i, value := range values {
			key := strings.Trim(keys[i], "`")
			if quoted := strings.Trim(value, "`"); quoted != value {
				config[key] = quoted
			} else if json.Valid([]byte(value)) {
				config[key] = json.RawMessage(value)
			} else {
				continue // in words
			}
			count++
		}
	}
	require.Greater(t, count, 15)
	full, err := json.Marshal(config)
	require.NoError(t, err)
	want, err := conf.Parse(bare)
	require.NoError(t, err)
	have, err := conf.Parse(full)
	require.NoError(t, err)
	want.Raw, have.Raw = nil, nil
	require.Equal(t, want, have)
}
