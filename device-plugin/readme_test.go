// SPDX-License-Identifier: Apache-2.0

package deviceplugin

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/metrics"
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

// The tables of the configuration have every key there is.
func TestEveryKeyIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/configuration.md")
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

// Each case of the docs has tests that exist.
func TestCasesHaveTests(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/cases.md")
	require.NoError(t, err)
	tests := map[string]bool{}
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, name := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(source, -1) {
			tests[string(name[1])] = true
		}
		return err
	}))
	named := regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(text, -1)
	require.NotEmpty(t, named)
	for _, name := range named {
		require.True(t, tests[string(name[1])], "%s is no test of this module", name[1])
	}
}

// The page of metrics has every metric there is.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/metrics.md")
	require.NoError(t, err)
	m := metrics.New("v")
	m.Expect("r")
	families, err := m.Registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "sriovdp_") {
			require.Contains(t, string(text), "| `"+f.GetName()+"` |")
		}
	}
}
