// SPDX-License-Identifier: Apache-2.0

package deviceplugin

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/stretchr/testify/require"
)

// Configurations in the README and in the manifest are good ones.
func TestExamples(t *testing.T) {
	t.Parallel()
	for file, block := range map[string]string{
		"README.md":             "(?s)```json\n(.*?)```",
		"deploy/daemonset.yaml": `(?s)config\.json: \|\n(.*?)\n---`,
	} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		found := regexp.MustCompile(block).FindAllSubmatch(text, -1)
		require.NotEmpty(t, found, file)
		for _, example := range found {
			cfg, err := config.Parse(example[1], "example.com")
			require.NoError(t, err, file)
			require.NotEmpty(t, cfg.Pools)
		}
	}
}

// The README's table names every key there is.
func TestReadmeNamesEveryKey(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	for _, probe := range []string{`{"resourceList": [{"?": 1}]}`, `{"resourceList": [{"resourceName": "a", "selectors": {"?": 1}}]}`} {
		_, err := config.Parse([]byte(probe), "example.com")
		_, list, ok := strings.Cut(err.Error(), "want one of ")
		require.True(t, ok, err)
		list, _, _ = strings.Cut(list, "\n")
		for key := range strings.SplitSeq(list, ", ") {
			if !strings.HasPrefix(key, "SelectorObj") {
				require.Contains(t, string(text), "`"+key+"`")
			}
		}
	}
}
