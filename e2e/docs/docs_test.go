// SPDX-License-Identifier: Apache-2.0

// Package docs checks the pages of the repository: that links lead somewhere, tables are
// whole, and lines are short enough to read and to review.
package docs

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

const top = "../.."

// maxLine is how long a line of a page may be, in characters. Tables, code and lines
// without a place to break are as long as they are.
const maxLine = 100

// page is a page without its blocks of code, whose lines are empty here.
type page struct {
	path  string // from the top
	lines []string
}

func pages(t *testing.T) []page {
	t.Helper()
	out, err := exec.Command("git", "-C", top, "ls-files", "--cached", "--others", "--exclude-standard", "*.md").Output()
	require.NoError(t, err)
	var all []page
	for path := range strings.FieldsSeq(string(out)) {
		text, err := os.ReadFile(filepath.Join(top, path))
		if os.IsNotExist(err) {
			continue // removed, not committed yet
		}
		require.NoError(t, err)
		all = append(all, page{path, prose(string(text))})
	}
	require.Greater(t, len(all), 10)
	return all
}

// prose empties the lines of code.
func prose(text string) []string {
	lines := strings.Split(text, "\n")
	fenced, before := false, ""
	for i, l := range lines {
		isFence := strings.HasPrefix(strings.TrimSpace(l), "```")
		indented := strings.HasPrefix(l, "    ") && (before == "" || strings.HasPrefix(before, "    "))
		before = l
		if isFence {
			fenced = !fenced
		}
		if isFence || fenced || indented {
			lines[i] = ""
		}
	}
	return lines
}

func isTable(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "|") }

func TestLinesAreShort(t *testing.T) {
	t.Parallel()
	for _, p := range pages(t) {
		for i, l := range p.lines {
			if n := utf8.RuneCountInString(l); n > maxLine && !isTable(l) && strings.ContainsAny(strings.TrimSpace(l)[1:], " ") {
				t.Errorf("%s:%d has %d characters, want at most %d", p.path, i+1, n, maxLine)
			}
		}
	}
}

// Every row of a table has as many cells as its head.
func TestTablesAreWhole(t *testing.T) {
	t.Parallel()
	for _, p := range pages(t) {
		want := 0
		for i, l := range p.lines {
			if !isTable(l) {
				want = 0
				continue
			}
			l = code.ReplaceAllString(strings.ReplaceAll(l, `\|`, ""), "")
			cells := strings.Count(l, "|") - 1
			if want == 0 {
				want = cells
			}
			if cells != want {
				t.Errorf("%s:%d has %d cells, the head of its table %d", p.path, i+1, cells, want)
			}
		}
	}
}

var (
	code    = regexp.MustCompile("`[^`]*`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`^#+ +(.*)$`)
)

// Links within the repository lead to files and headings that are there.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	all := pages(t)
	anchors := map[string]map[string]bool{}
	for _, p := range all {
		anchors[p.path] = map[string]bool{}
		for _, l := range p.lines {
			if h := heading.FindStringSubmatch(l); h != nil {
				anchors[p.path][anchor(h[1])] = true
			}
		}
	}
	for _, p := range all {
		for i, l := range p.lines {
			for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(l, ""), -1) {
				path, part, _ := strings.Cut(m[1], "#")
				if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
					continue
				}
				to := p.path
				if path != "" {
					to = filepath.Join(filepath.Dir(p.path), path)
				}
				if _, err := os.Stat(filepath.Join(top, to)); err != nil {
					t.Errorf("%s:%d links to %s, which is not there", p.path, i+1, m[1])
				} else if part != "" && anchors[to] != nil && !anchors[to][part] {
					t.Errorf("%s:%d links to %s, which has no heading %q", p.path, i+1, to, part)
				}
			}
		}
	}
}

// anchor is what a heading is linked by, as GitHub makes it.
func anchor(heading string) string {
	var out bytes.Buffer
	for _, r := range strings.ToLower(heading) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			out.WriteRune(r)
		case r == ' ':
			out.WriteByte('-')
		}
	}
	return out.String()
}
