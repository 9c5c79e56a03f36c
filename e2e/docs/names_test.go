// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// named is a test, or with an ellipsis the beginning of several tests' names.
var named = regexp.MustCompile(`\b((?:Test|Fuzz|Benchmark)[A-Z]\w*)(…?)`)

// Pages name tests as proof of what they say: each is there.
func TestNamedTestsAreThere(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("git", "-C", top, "grep", "-hoE", "--untracked", `^func (Test|Fuzz|Benchmark)\w+`, "--", "*_test.go").Output()
	require.NoError(t, err)
	there := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		there[strings.TrimPrefix(strings.TrimSpace(line), "func ")] = true
	}
	begins := func(prefix string) bool {
		for name := range there {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
		return false
	}
	count := 0
	for _, p := range pages(t) {
		for i, l := range p.lines {
			for _, m := range named.FindAllStringSubmatch(l, -1) {
				count++
				if !there[m[1]] && (m[2] == "" || !begins(m[1])) {
					t.Errorf("%s:%d names %s, which no file has", p.path, i+1, m[1])
				}
			}
		}
	}
	require.Greater(t, count, 50)
}

var namedFile = regexp.MustCompile("`([\\w./-]+\\.(?:go|c|txtar))`")

// Sources that pages name are there, by the end of their path.
func TestNamedFilesAreThere(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("git", "-C", top, "ls-files", "--cached", "--others", "--exclude-standard").Output()
	require.NoError(t, err)
	files := "\n/" + strings.Join(strings.Fields(string(out)), "\n/") + "\n"
	count := 0
	for _, p := range pages(t) {
		for i, l := range p.lines {
			for _, m := range namedFile.FindAllStringSubmatch(l, -1) {
				count++
				if !strings.HasPrefix(m[1], "/") && !strings.Contains(files, "/"+m[1]+"\n") {
					t.Errorf("%s:%d names %s, which is not there", p.path, i+1, m[1])
				}
			}
		}
	}
	require.Greater(t, count, 20)
}
