// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// section returns the text of a page below a heading, up to the next of its level.
func section(t *testing.T, path, heading string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, path))
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	require.True(t, ok, "%s has no heading %q", path, heading)
	rest, _, _ = strings.Cut(rest, "\n## ")
	return rest
}

// inCode returns the code of a text; of a table, with first, that of its first column alone.
func inCode(text string, first bool) []string {
	var all []string
	for line := range strings.Lines(text) {
		if first {
			if !isTable(line) {
				continue
			}
			line, _, _ = strings.Cut(strings.TrimPrefix(line, "|"), "|")
		}
		for _, m := range span.FindAllStringSubmatch(line, -1) {
			all = append(all, m[1])
		}
	}
	return all
}

// found returns what a pattern finds in a file behind a marker, up to the end of the block.
func found(t *testing.T, path, marker, pattern string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, path))
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(text), marker)
	require.True(t, ok, "%s has no %q", path, marker)
	rest, _, _ = strings.Cut(rest, "\n}\n")
	var all []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(rest, -1) {
		all = append(all, m[1])
	}
	require.NotEmpty(t, all, path)
	return all
}

// directories returns the packages' directories of a module, without those of tests alone.
func directories(t *testing.T, module string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(top, module))
	require.NoError(t, err)
	var all []string
	for _, e := range entries {
		if e.IsDir() && !slices.Contains([]string{"cmd", "deploy", "docs", "internal", "testdata", "bin"}, e.Name()) {
			all = append(all, e.Name())
		}
	}
	return all
}

// A table has all keys, variables or packages that there are, and no others.
func TestTablesAreComplete(t *testing.T) {
	t.Parallel()
	const key = "`" + `json:"([^",]+)`
	for name, tc := range map[string]struct {
		page, heading string
		there         []string
		more          []string // in the table, and settled elsewhere
		silent        []string // there, and not what users write
	}{
		"CNI configuration": {
			page: "sriov-cni/docs/configuration.md", heading: "Keys",
			there: found(t, "sriov-cni/request/conf.go", "type Conf struct {", key),
			more:  []string{"ipam", "dns"}, silent: []string{"runtimeConfig", "args", "disableCheck", "disableGC"},
		},
		"node's file of the CNI plugin": {
			page: "sriov-cni/docs/configuration.md", heading: "What the node's administrator settles",
			there: found(t, "sriov-cni/vf/node.go", "type NodeConfig struct {", key),
			more:  []string{"dataDir", "resolvConf", "kubeconfig"}, // of IPAM plugins
		},
		"meta plugin": {
			page: "multus-shim/docs/configuration.md", heading: "Configuration",
			there:  found(t, "multus-shim/conf/conf.go", "type wire struct {", key),
			silent: []string{"name", "cniVersion", "runtimeConfig", "cni.dev/valid-attachments", "cni.dev/attachments"},
		},
		"environment of the operator": {
			page: "operator/docs/configuration.md", heading: "Environment of the operator",
			there: slices.Concat(found(t, "operator/cmd/sriovkit-operator/operator.go", "func readSettings(", `"([A-Z][A-Z_]+)"`),
				found(t, "operator/cmd/sriovkit-operator/tls.go", "func readTLS(", `getenv\("([A-Z_]+)"`)),
			more: []string{"KUBECONFIG", "WEBHOOK_URL"}, silent: []string{"NAMESPACE"},
		},
		"packages of the lab": {
			page: "e2e/README.md", heading: "What is in here", there: directories(t, "e2e"),
			more: []string{"cmd/agent", "cmd/lab"}, silent: []string{"docs", "picture"},
		},
		"packages of the device plugin": {
			page: "device-plugin/README.md", heading: "How it works", there: directories(t, "device-plugin"),
			more: []string{"dra/offer", "dra/prepare", "dra/record", "dra/vfconfig", "dra/driver"}, silent: []string{"dra", "command", "metrics"},
		},
		"packages of the library": {
			page: "libsriov/README.md", heading: "Packages", there: directories(t, "libsriov"), more: []string{"libsriov"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := section(t, tc.page, tc.heading)
			said := inCode(text, false)
			for _, k := range tc.there {
				if slices.Contains(tc.silent, k) == slices.Contains(said, k) {
					t.Errorf("%s, %s: %q is missing, or listed here as silent without need", tc.page, tc.heading, k)
				}
			}
			for _, k := range inCode(text, true) {
				if slices.Contains(tc.more, k) == slices.Contains(tc.there, k) {
					t.Errorf("%s, %s: there is no %q, or it is listed here as settled elsewhere without need", tc.page, tc.heading, k)
				}
			}
		})
	}
}
