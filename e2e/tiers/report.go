// SPDX-License-Identifier: Apache-2.0

package tiers

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Report reads what "go test -json" prints for a tier, writes what a person wants of it,
// and judges it: tests fail, are skipped although nothing may be, or do not run.
type Report struct {
	Tier      Tier
	Functions []Function
	// All asks that every test of the tier has run, not only those that were asked for.
	All bool
	// Verbose writes all output at once, not only that of tests that fail.
	Verbose bool
	// Failures gets the end of what each failed test said, and the faults of the run, to be
	// read after all that comes later; nil is nobody.
	Failures io.Writer

	out      io.Writer
	running  map[testID][]string // what unfinished tests, and packages, have printed
	ended    map[testID]string   // pass, fail or skip
	faults   []string
	failures int
}

// testID is a test, a subtest, or a package where test is empty.
type testID struct{ pkg, test string }

// event is a line of go test -json, see go doc test2json.
type event struct {
	Action, Package, Test, Output string
	ImportPath                    string // of a build
}

// Read reads events to the end. The error says what is wrong with the run.
func (r *Report) Read(events io.Reader, out io.Writer) error {
	r.out, r.running, r.ended = out, map[testID][]string{}, map[testID]string{}
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				fmt.Fprint(out, line) // what go prints before it tests
			} else {
				r.event(e)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	return r.verdict()
}

func (r *Report) event(e event) {
	id := testID{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
		r.repeat(e.Output)
	case "output":
		if r.Verbose || e.Test == "" && packageLine(e.Output) {
			fmt.Fprint(r.out, e.Output)
		}
		if e.Test != "" || !packageLine(e.Output) {
			r.running[id] = append(r.running[id], e.Output)
		}
	case "pass", "skip":
		r.ended[id] = e.Action
		if e.Action == "skip" && e.Test != "" {
			r.skipped(id)
		}
		delete(r.running, id)
	case "fail":
		r.ended[id] = e.Action
		r.failures++
		if e.Test == "" { // what has not ended was cut off
			for _, id := range slices.SortedFunc(maps.Keys(r.running), func(a, b testID) int { return strings.Compare(a.test, b.test) }) {
				if id.pkg == e.Package && id.test != "" {
					r.print(id)
				}
			}
		}
		r.print(id)
	}
}

// packageLine reports whether a line is the one that sums up a package.
func packageLine(output string) bool {
	return strings.HasPrefix(output, "ok  \t") || strings.HasPrefix(output, "FAIL\t")
}

// lastLines is how many lines of a failed test stand in Failures: enough for what the
// longest of them, which run the tests of other machines, say at their end.
const lastLines = 200

func (r *Report) print(id testID) {
	lines := r.running[id]
	delete(r.running, id)
	if !r.Verbose {
		fmt.Fprint(r.out, strings.Join(lines, ""))
	}
	if len(lines) > 0 {
		r.repeat(fmt.Sprintf("== %s %s\n%s", id.pkg, id.test, strings.Join(lines[max(len(lines)-lastLines, 0):], "")))
	}
}

func (r *Report) repeat(text string) {
	if r.Failures != nil {
		fmt.Fprint(r.Failures, text)
	}
}

// skipped judges a test that was skipped. One of another tier is meant to be, and one that
// runs inside a node is on this machine.
func (r *Report) skipped(id testID) {
	top, _, isSubtest := strings.Cut(id.test, "/")
	for _, f := range r.Functions {
		if f.Package == id.pkg && f.Name == top && (f.Tier() != r.Tier || slices.Contains(f.Guards, inNode)) && !isSubtest {
			return
		}
	}
	var why []string
	for _, line := range r.running[id] {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			why = append(why, line)
		}
	}
	r.faults = append(r.faults, fmt.Sprintf("%s %s was skipped, and here nothing may be: %s", id.pkg, id.test, strings.Join(why, " ")))
}

func (r *Report) verdict() error {
	ran, other := 0, map[Tier]int{}
	for _, f := range r.Functions {
		end, seen := r.ended[testID{f.Package, f.Name}]
		switch {
		case f.Kind != Test || f.Nested:
		case f.Tier() == r.Tier && seen && end != "skip":
			ran++
		case f.Tier() == r.Tier && !seen && r.All:
			r.faults = append(r.faults, fmt.Sprintf("%s: %s did not run", f.Position, f.Name))
		case f.Tier() != r.Tier && seen && end != "skip":
			r.faults = append(r.faults, fmt.Sprintf("%s: %s is of the %s tier and ran in the %s tier, too: its guard did not skip it", f.Position, f.Name, f.Tier(), r.Tier))
		case f.Tier() != r.Tier:
			other[f.Tier()]++
		}
	}
	var elsewhere []string
	for _, tier := range slices.Sorted(maps.Keys(other)) {
		elsewhere = append(elsewhere, fmt.Sprintf("%d of the %s tier", other[tier], tier))
	}
	fmt.Fprintf(r.out, "== %s tier: %d tests ran; elsewhere run %s\n", r.Tier, ran, strings.Join(elsewhere, ", "))
	for _, fault := range r.faults {
		fmt.Fprintln(r.out, fault)
		r.repeat(fault + "\n")
	}
	switch {
	case r.failures > 0:
		return errors.New("tests failed")
	case len(r.faults) > 0:
		return fmt.Errorf("%d tests were skipped, did not run, or ran in two tiers", len(r.faults))
	case ran == 0:
		return fmt.Errorf("no test of the %s tier ran", r.Tier)
	}
	return nil
}
