// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// named is a test, or with an ellipsis the beginning of several tests' names.
var named = regexp.MustCompile(`\b((?:Test|Fuzz|Benchmark)[A-Z]\w*)(…?)`)

// pattern is what a command selects tests by.
var pattern = regexp.MustCompile(`(?:\bRUN=| -run[ =]| -bench[ =])'?([^\s'` + "`" + `]+)'?`)

// Pages name tests as proof of what they say, and commands that run some: they are there.
func TestNamedTestsAreThere(t *testing.T) {
	t.Parallel()
	there := tests(t)
	isThere := func(matches func(name string) bool) bool { return slices.ContainsFunc(there, matches) }
	count := 0
	for _, p := range pages(t) {
		for i, l := range p.lines {
			for _, m := range named.FindAllStringSubmatch(l, -1) {
				count++
				if !isThere(func(name string) bool { return name == m[1] || m[2] != "" && strings.HasPrefix(name, m[1]) }) {
					t.Errorf("%s:%d names %s, which no file has", p.path, i+1, m[1])
				}
			}
		}
		text, err := os.ReadFile(filepath.Join(top, p.path))
		require.NoError(t, err)
		for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
			wanted, _, _ := strings.Cut(m[1], "/") // behind it are subtests
			if slices.Contains([]string{"^$", "NAME", "regexp", "…"}, wanted) {
				continue
			}
			matches, err := regexp.Compile(wanted)
			require.NoError(t, err, p.path)
			count++
			if !isThere(matches.MatchString) {
				t.Errorf("%s: %s runs no test", p.path, m[0])
			}
		}
	}
	require.Greater(t, count, 50)
}

// tests returns the names of all tests, fuzz targets and benchmarks.
func tests(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("git", "-C", top, "grep", "-hoE", "--untracked", `^func (Test|Fuzz|Benchmark)\w+`, "--", "*_test.go").Output()
	require.NoError(t, err)
	return strings.Fields(strings.ReplaceAll(string(out), "func ", ""))
}

var (
	namedFile = regexp.MustCompile(`^[\w./-]+\.(?:go|c|txtar)$`)
	namedPath = regexp.MustCompile(`^[\w.-]+(?:/[\w.-]+)+/?$`)
	version   = regexp.MustCompile(`/v\d`) // the tag of a module
)

// Files and directories that pages name are there, by the end of their path. A path is one of
// the repository if a directory of it has the first name.
func TestNamedFilesAreThere(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("git", "-C", top, "ls-files", "--cached", "--others", "--exclude-standard").Output()
	require.NoError(t, err)
	files, directories := "\n", map[string]bool{}
	for path := range strings.Lines(string(out)) {
		path = strings.TrimSpace(path)
		if _, err := os.Lstat(filepath.Join(top, path)); err != nil {
			continue // removed, not committed yet
		}
		files += "/" + path + "\n"
		for _, name := range strings.Split(filepath.Dir(path), "/") {
			directories[name] = true
		}
	}
	count := 0
	for _, p := range pages(t) {
		if filepath.Base(p.path) == "CHANGELOG.md" {
			continue // it tells of the past
		}
		for i, l := range p.lines {
			for _, m := range span.FindAllStringSubmatch(l, -1) {
				first, _, _ := strings.Cut(m[1], "/")
				isPath := namedPath.MatchString(m[1]) && directories[first] && !version.MatchString(m[1]) && !strings.Contains(m[1], "...")
				if !isPath && !namedFile.MatchString(m[1]) || strings.HasPrefix(m[1], "/") {
					continue
				}
				count++
				name := "/" + strings.TrimSuffix(m[1], "/")
				if !strings.Contains(files, name+"\n") && !strings.Contains(files, name+"/") {
					t.Errorf("%s:%d names %s, which is not there", p.path, i+1, m[1])
				}
			}
		}
	}
	require.Greater(t, count, 100)
}

var qualified = regexp.MustCompile(`^([a-z][a-z0-9]*)\.(?:[A-Z]\w*\.)?([A-Z]\w*)(?:\(.*\))?$`)

// What pages name with its package is declared there.
func TestNamedDeclarationsAreThere(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("git", "-C", top, "ls-files", "--cached", "--others", "--exclude-standard", "*.go").Output()
	require.NoError(t, err)
	packages := map[string]string{} // the text of all packages of a name
	for path := range strings.FieldsSeq(string(out)) {
		text, err := os.ReadFile(filepath.Join(top, path))
		if os.IsNotExist(err) {
			continue // removed, not committed yet
		}
		require.NoError(t, err)
		packages[filepath.Base(filepath.Dir(path))] += string(text)
	}
	count := 0
	for _, p := range pages(t) {
		if filepath.Base(p.path) == "CHANGELOG.md" {
			continue // it tells of the past
		}
		for i, l := range p.lines {
			for _, s := range span.FindAllStringSubmatch(l, -1) {
				m := qualified.FindStringSubmatch(s[1])
				if m == nil || packages[m[1]] == "" {
					continue
				}
				count++
				if !regexp.MustCompile(`(?m)^(?:func (?:\([^)]*\) )?|type |\s+|var |const )` + m[2] + `\b`).MatchString(packages[m[1]]) {
					t.Errorf("%s:%d names %s, which package %s does not declare", p.path, i+1, s[1], m[1])
				}
			}
		}
	}
	require.Greater(t, count, 10)
}
