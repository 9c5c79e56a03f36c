// SPDX-License-Identifier: Apache-2.0

package tiers_test

import (
	"cmp"
	"maps"
	"slices"
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
	for _, s := range node.Suites {
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
