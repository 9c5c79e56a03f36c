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

// Commands of the pages name what there is: targets of make, files and directories of the
// repository, and charts, which make charts puts into bin.
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
	checked := 0
	for _, p := range pages(t) {
		text, err := os.ReadFile(filepath.Join(top, p.path))
		require.NoError(t, err)
		for _, command := range commands(string(text)) {
			words := strings.Fields(command)
			for i, word := range words {
				if wrong := missing(string(makefile), folders, words[:i], word); wrong != "" {
					t.Errorf("%s: %s: %s", p.path, command, wrong)
				}
				checked++
			}
		}
	}
	require.Greater(t, checked, 100)
}

var fence = regexp.MustCompile("(?ms)^```sh\n(.*?)^```")

// commands are the lines of the blocks of shell, without comments, and other lines of code
// that call make.
func commands(text string) []string {
	var all []string
	for _, block := range fence.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.Split(strings.ReplaceAll(block[1], "\\\n", " "), "\n")...)
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "    make ") {
			all = append(all, line)
		}
	}
	for _, inline := range regexp.MustCompile("`(make [a-z][^`]*)`").FindAllStringSubmatch(text, -1) {
		all = append(all, inline[1])
	}
	for i, command := range all {
		command, _, _ = strings.Cut(command, " #")
		all[i] = strings.TrimSpace(command)
	}
	return all
}

// missing says what a word of a command names and is not there; before are the words that
// stand before it.
func missing(makefile string, folders, before []string, word string) string {
	word = strings.Trim(word, `"'`)
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
