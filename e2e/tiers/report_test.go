// SPDX-License-Identifier: Apache-2.0

package tiers_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/tiers"
)

// events are lines of go test -json: action, test, and output.
func events(lines ...[3]string) string {
	var text strings.Builder
	for _, l := range lines {
		line, _ := json.Marshal(map[string]string{"Action": l[0], "Package": "p", "Test": l[1], "Output": l[2]})
		text.Write(append(line, '\n'))
	}
	return text.String()
}

func TestReport(t *testing.T) {
	t.Parallel()
	node := []string{house + "libsriov/sriovtest.NeedNode"}
	functions := []tiers.Function{
		{Package: "p", Name: "TestA", Kind: tiers.Test, Position: "a_test.go:1"},
		{Package: "p", Name: "TestNodeB", Kind: tiers.Test, Position: "a_test.go:2", Guards: node},
		{Package: "p", Name: "FuzzC", Kind: tiers.Fuzz},
		{Package: "nested", Name: "TestD", Kind: tiers.Test, Nested: true},
	}
	passed := [3]string{"pass", "TestA"}
	for name, tc := range map[string]struct {
		events      string
		some        bool
		err         string // empty is none
		want, never []string
		again       []string // among the failures that are repeated
	}{
		"passed": {
			events: events([3]string{"output", "TestA", "noise\n"}, passed, [3]string{"output", "TestNodeB", "boots\n"}, [3]string{"skip", "TestNodeB"}, [3]string{"output", "", "ok  \tp\t0.1s\n"}, [3]string{"pass"}),
			want:   []string{"ok  \tp\t0.1s\n", "== host tier: 1 tests ran; elsewhere run 1 of the node tier\n"}, never: []string{"noise"},
		},
		"failed": {
			events: events([3]string{"output", "TestA", "    a_test.go:3: reason\n"}, [3]string{"fail", "TestA"}, [3]string{"output", "", "FAIL\tp\t0.1s\n"}, [3]string{"fail"}),
			err:    "tests failed", want: []string{"    a_test.go:3: reason\nFAIL\tp\t0.1s\n"}, again: []string{"== p TestA\n    a_test.go:3: reason\n"},
		},
		"panicked": {
			events: events([3]string{"output", "TestA", "panic: why\n"}, [3]string{"output", "", "FAIL\tp\t0.1s\n"}, [3]string{"fail"}),
			err:    "tests failed", want: []string{"panic: why\n"}, again: []string{"panic: why\n"},
		},
		"skipped": {
			events: events([3]string{"output", "TestA", "    a_test.go:3: needs root\n"}, [3]string{"skip", "TestA"}),
			err:    "1 tests were skipped", want: []string{"p TestA was skipped, and here nothing may be: a_test.go:3: needs root\n"}, again: []string{"needs root"},
		},
		"subtest skipped": {
			events: events([3]string{"skip", "TestA/x"}, passed),
			err:    "1 tests were skipped", want: []string{"p TestA/x was skipped"}, again: []string{"p TestA/x was skipped"},
		},
		"part of another tier's test skipped": {
			events: events(passed, [3]string{"skip", "TestNodeB/x"}, [3]string{"pass", "TestNodeB"}),
			err:    "2 tests were skipped", again: []string{"p TestNodeB/x was skipped"},
		},
		"two tiers": {
			events: events(passed, [3]string{"pass", "TestNodeB"}),
			err:    "ran in two tiers", want: []string{"a_test.go:2: TestNodeB is of the node tier and ran in the host tier, too"}, again: []string{"ran in the host tier, too"},
		},
		"did not run": {
			events: events([3]string{"skip", "TestNodeB"}),
			err:    "did not run", want: []string{"a_test.go:1: TestA did not run\n"}, again: []string{"TestA did not run"},
		},
		"nothing asked for ran": {events: events([3]string{"skip", "TestNodeB"}), some: true, err: "no test of the host tier ran"},
		"does not compile": {
			events: `{"ImportPath":"p","Action":"build-output","Output":"x.go:1: undefined\n"}` + "\n" + events([3]string{"fail"}),
			err:    "tests failed", want: []string{"x.go:1: undefined\n"}, again: []string{"x.go:1: undefined\n"},
		},
		"not JSON": {events: "go: no such package\n" + events(passed, [3]string{"skip", "TestNodeB"}), want: []string{"go: no such package\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, failures strings.Builder
			err := (&tiers.Report{Tier: tiers.Host, Functions: functions, All: !tc.some, Failures: &failures}).Read(strings.NewReader(tc.events), &out)
			if tc.err == "" {
				require.NoError(t, err, out.String())
			} else {
				require.ErrorContains(t, err, tc.err, out.String())
			}
			for _, want := range tc.want {
				require.Contains(t, out.String(), want)
			}
			for _, never := range tc.never {
				require.NotContains(t, out.String(), never)
			}
			for _, again := range tc.again {
				require.Contains(t, failures.String(), again)
			}
			require.Equal(t, len(tc.again) > 0, failures.Len() > 0, failures.String())
		})
	}
}

// Tests that run inside nodes are skipped beside them.
func TestReportOfNodes(t *testing.T) {
	t.Parallel()
	functions := []tiers.Function{
		{Package: "p", Name: "TestNodeA", Kind: tiers.Test, Guards: []string{house + "libsriov/sriovtest.NeedNode"}},
		{Package: "p", Name: "TestNodeB", Kind: tiers.Test, Guards: []string{house + "e2e/vm.Need"}},
	}
	read := func(lines ...[3]string) error {
		return (&tiers.Report{Tier: tiers.Node, Functions: functions}).Read(strings.NewReader(events(lines...)), &strings.Builder{})
	}
	require.NoError(t, read([3]string{"skip", "TestNodeA"}, [3]string{"pass", "TestNodeB"}))
	require.ErrorContains(t, read([3]string{"pass", "TestNodeA"}, [3]string{"skip", "TestNodeB"}), "1 tests were skipped")
}

// What failed can be read after all that came later, in runs that print everything at once, too.
func TestReportRepeatsFailures(t *testing.T) {
	t.Parallel()
	lines := [][3]string{{"output", "TestA", "first\n"}}
	for range 300 {
		lines = append(lines, [3]string{"output", "TestA", "noise\n"})
	}
	lines = append(lines, [3]string{"output", "TestA", "reason\n"}, [3]string{"fail", "TestA"}, [3]string{"output", "TestB", "good\n"}, [3]string{"pass", "TestB"})
	var out, failures strings.Builder
	r := tiers.Report{Tier: tiers.Host, Verbose: true, Failures: &failures}
	require.ErrorContains(t, r.Read(strings.NewReader(events(lines...)), &out), "tests failed")
	require.Equal(t, 1, strings.Count(out.String(), "reason\n"))
	require.Contains(t, out.String(), "good\n")
	require.True(t, strings.HasPrefix(failures.String(), "== p TestA\nnoise\n"), "the end of it only")
	require.True(t, strings.HasSuffix(failures.String(), "noise\nreason\n"))
}
