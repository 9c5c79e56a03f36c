package node

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
)

// summary counts top-level tests and, of skips, all: a skipped subtest is
// hardware that was promised and is not there.
type summary struct {
	run     int
	skipped []string
}

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

// counter reads the output of a test binary run with -test.v.
type counter struct {
	sum  summary
	rest []byte
}

func (c *counter) Write(p []byte) (int, error) {
	c.rest = append(c.rest, p...)
	cut := bytes.LastIndexByte(c.rest, '\n') + 1
	lines := bufio.NewScanner(bytes.NewReader(c.rest[:cut]))
	lines.Buffer(nil, cut+1)
	for lines.Scan() {
		c.line(lines.Text())
	}
	c.rest = append([]byte(nil), c.rest[cut:]...)
	return len(p), nil
}

func (c *counter) line(line string) {
	result, ok := strings.CutPrefix(strings.TrimLeft(line, " "), "--- ")
	if !ok {
		return
	}
	verdict, name, _ := strings.Cut(result, ": ")
	name, _, _ = strings.Cut(name, " (")
	if verdict == "SKIP" {
		c.sum.skipped = append(c.sum.skipped, name)
	}
	if !strings.HasPrefix(line, " ") && (verdict == "PASS" || verdict == "FAIL") {
		c.sum.run++
	}
}
