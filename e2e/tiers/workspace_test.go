// SPDX-License-Identifier: Apache-2.0

package tiers_test

import (
	"cmp"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/node"
	"github.com/sriovkit/sriovkit/e2e/tiers"
)

// TestEveryTestHasOneTier lists the tests, fuzz targets and benchmarks of this checkout.
func TestEveryTestHasOneTier(t *testing.T) {
	t.Parallel()
	functions, err := tiers.Load(t.Context(), "../..")
	require.NoError(t, err)
	var suites []tiers.Suite
	for _, s := range node.All() {
		if len(s.Profiles) > 0 {
			continue // once more, on other NICs
		}
		suites = append(suites, tiers.Suite{Name: s.Name, Dir: s.Dir, Tests: s.Tests})
	}
	for _, fault := range tiers.Faults(functions, suites) {
		t.Error(fault)
	}
	type row struct {
		tier tiers.Tier
		kind tiers.Kind
	}
	count := map[row]int{}
	for _, f := range functions {
		count[row{f.Tier(), f.Kind}]++
	}
	for _, r := range slices.SortedFunc(maps.Keys(count), func(a, b row) int {
		return cmp.Or(cmp.Compare(b.kind, a.kind), cmp.Compare(b.tier, a.tier))
	}) {
		t.Logf("%-9s %-7s %4d", r.kind, r.tier, count[r])
	}
	require.Greater(t, count[row{tiers.Host, tiers.Test}], 300, "the list is not cut short")
	require.Greater(t, count[row{tiers.Node, tiers.Test}], 70)
	require.Greater(t, count[row{tiers.Cluster, tiers.Test}], 10)
}

// What is taken out of make test, or of what CI runs, runs nowhere.
func TestMakeTestRunsAll(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)
	here := regexp.MustCompile(`(?m)^HERE := (.*)$`).FindSubmatch(makefile)
	require.NotNil(t, here)
	require.Subset(t, strings.Fields(string(here[1])), []string{"check", "lint", "vuln", "test-host", "test-publish", "test-runtimes", "test-fuzz", "test-bench"})
	recipe := regexp.MustCompile(`(?m)^test: (.*\n(?:\t.*\n)+)`).FindSubmatch(makefile)
	require.NotNil(t, recipe)
	require.Subset(t, strings.Fields(strings.ReplaceAll(string(recipe[1]), ";", " ")), []string{"check-generated", "test-here", "test-node", "test-cluster"})
	run, err := os.ReadFile("../../.ci/run")
	require.NoError(t, err)
	require.Contains(t, string(run), "\nexec make test\n")
}
