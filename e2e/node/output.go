// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"fmt"
	"strings"
)

// summary counts top-level tests and, of skips, all: a skipped subtest is
// hardware that was promised and is not there.
type summary struct {
	run     int
	skipped []string
	failed  []string // names of failed tests and subtests, each with the end of what it said

	name string              // of the test whose output comes at present
	said map[string][]string // the last lines of each test that has not ended
}

// lastLines is how many lines of a failed test are repeated: several of testify's reports.
const lastLines = 40

// verdict judges a test binary that ended well and had so many tests to run.
func (s summary) verdict(want int) error {
	switch {
	case len(s.skipped) > 0:
		return fmt.Errorf("skipped on a node that has everything: %s", strings.Join(s.skipped, ", "))
	case s.run != want:
		return fmt.Errorf("%d tests ran, want %d", s.run, want)
	}
	return nil
}

// lineWriter hands on what is written to it line by line.
type lineWriter struct {
	each func(line string)
	rest []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		line, rest, ok := bytes.Cut(w.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		w.each(string(line))
		w.rest = rest
	}
}

// flush hands on what is left without an end of line.
func (w *lineWriter) flush() {
	if len(w.rest) > 0 {
		w.each(string(w.rest))
		w.rest = nil
	}
}

// count reads a line of a test binary run with -test.v.
func (s *summary) count(line string) {
	if header, ok := strings.CutPrefix(line, "=== "); ok { // "=== RUN   TestNodeA/b"
		_, s.name, _ = strings.Cut(header, " ")
		s.name = strings.TrimLeft(s.name, " ")
		return
	}
	result, ok := strings.CutPrefix(strings.TrimLeft(line, " "), "--- ")
	if !ok {
		s.say(line)
		return
	}
	verdict, name, _ := strings.Cut(result, ": ")
	name, _, _ = strings.Cut(name, " (")
	switch verdict {
	case "SKIP":
		s.skipped = append(s.skipped, name)
	case "FAIL":
		s.failed = append(s.failed, strings.Join(append([]string{name}, s.said[name]...), "\n"))
	}
	delete(s.said, name)
	if !strings.HasPrefix(line, " ") && (verdict == "PASS" || verdict == "FAIL") {
		s.run++
	}
}

// say keeps a line of the present test.
func (s *summary) say(line string) {
	if s.name == "" {
		return
	}
	if s.said == nil {
		s.said = map[string][]string{}
	}
	s.said[s.name] = append(s.said[s.name], line)
	if extra := len(s.said[s.name]) - lastLines; extra > 0 {
		s.said[s.name] = s.said[s.name][extra:]
	}
}
