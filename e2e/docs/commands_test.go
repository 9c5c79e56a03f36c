// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Commands of the pages name what there is: targets of make and their variables, suites of
// node tests, files and directories of the repository, and charts, which make charts puts
// into bin.
func TestCommandsNameWhatThereIs(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile(filepath.Join(top, "Makefile"))
	require.NoError(t, err)
	entries, err := os.ReadDir(top)
	require.NoError(t, err)
	var folders []string
	for _, e := range entries {
		if e.IsDir() && e.Name() != "bin" && !strings.HasPrefix(e.Name(), ".") {
			folders = append(folders, e.Name())
		}
	}
	suites := suites(t)
	checked := 0
	for _, p := range pages(t) {
		text, err := os.ReadFile(filepath.Join(top, p.path))
		require.NoError(t, err)
		for _, command := range commands(string(text)) {
			words := strings.Fields(command)
			for i, word := range words {
				if wrong := missing(string(makefile), folders, suites, words[:i], word); wrong != "" {
					t.Errorf("%s: %s: %s", p.path, command, wrong)
				}
				checked++
			}
		}
	}
	require.Greater(t, checked, 100)
}

var (
	fence  = regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```")
	fenced = regexp.MustCompile("(?ms)^ *```.*?^ *```")
)

// commands are the lines of blocks of shell and of indented code, without comments, and
// inline code of several words.
func commands(text string) []string {
	var all []string
	for _, block := range fence.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.Split(strings.ReplaceAll(block[1], "\\\n", " "), "\n")...)
	}
	before, code := "", false
	for line := range strings.Lines(fenced.ReplaceAllString(text, "")) {
		code = strings.HasPrefix(line, "    ") && (code || strings.TrimSpace(before) == "")
		if before = line; code {
			all = append(all, line)
		}
	}
	for _, inline := range span.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		if strings.Contains(inline[1], " ") {
			all = append(all, inline[1])
		}
	}
	for i, command := range all {
		command, _, _ = strings.Cut(command, " #")
		all[i] = strings.TrimSpace(command)
	}
	return all
}

// suites returns the names that SUITE may have.
func suites(t *testing.T) []string {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(top, "e2e/node/suite.go"))
	require.NoError(t, err)
	var names []string
	for _, m := range regexp.MustCompile(`(?:\bName: |\.on\()"([a-z-]+)"`).FindAllStringSubmatch(string(source), -1) {
		names = append(names, m[1])
	}
	require.Contains(t, names, "sriov-cni")
	return names
}

var assignment = regexp.MustCompile(`^([A-Z]+)=(.*)$`)

// missing says what a word of a command names and is not there; before are the words that
// stand before it.
func missing(makefile string, folders, suites, before []string, word string) string {
	word = strings.Trim(word, `"':`)
	if set := assignment.FindStringSubmatch(word); set != nil && slices.Contains(before, "make") {
		switch {
		case !strings.Contains(makefile, "$("+set[1]+")"):
			return "make has no variable " + set[1]
		case set[1] == "SUITE" && !slices.Contains(suites, set[2]):
			return "no suite " + set[2]
		}
	}
	if n := len(before); n > 0 && before[n-1] == "make" && regexp.MustCompile(`^[a-z][a-z-]*$`).MatchString(word) {
		if !regexp.MustCompile(`(?m)^` + word + `:`).MatchString(makefile) {
			return "no target " + word
		}
		return ""
	}
	if chart, ok := strings.CutPrefix(word, "bin/charts/"); ok {
		found, _ := filepath.Glob(filepath.Join(top, "*/charts", chart))
		if len(found) == 0 {
			return "no chart " + chart
		}
		return ""
	}
	first, rest, ok := strings.Cut(word, "/")
	if !ok || rest == "" || strings.ContainsAny(word, "*<>{}$") || !slices.Contains(folders, first) {
		return ""
	}
	if _, err := os.Stat(filepath.Join(top, word)); err != nil {
		return fmt.Sprintf("no %s in the repository", word)
	}
	return ""
}
