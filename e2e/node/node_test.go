// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sriovkit/sriovkit/e2e/node"
	"github.com/sriovkit/sriovkit/e2e/vm"
)

var (
	suiteName = flag.String("suite", "", "run only the suite of this name")
	profile   = flag.String("profile", "", "run the suite on this profile of libsriov/sriovtest/quirk alone, with all of its tests")
	tests     = flag.String("tests", "", "regular expression of the tests to run on the node; empty is all")
)

// TestNodeSuites runs suites side by side, as many as -parallel allows: most wait for
// their hardware most of the time. They begin in the order of All, which parallel subtests
// would not.
func TestNodeSuites(t *testing.T) {
	vm.Need(t)
	checkout, err := filepath.Abs("../..")
	require.NoError(t, err)
	require.False(t, *profile != "" && *suiteName == "", "-profile needs a -suite")
	beside, err := strconv.Atoi(flag.Lookup("test.parallel").Value.String())
	require.NoError(t, err)
	suites := node.All()
	switch {
	case *suiteName != "":
		s, known := node.Named(*suiteName)
		require.True(t, known, "-suite=%q: suites are in e2e/node/suite.go", *suiteName)
		suites = []node.Suite{s}
	case *tests != "": // in parts of suites they would run in each
		suites = slices.Concat(node.Suites, node.Again)
	}
	failures, took := make([]error, len(suites)), make([]time.Duration, len(suites))
	var group errgroup.Group
	group.SetLimit(beside)
	for i, s := range suites {
		if *profile != "" {
			s = s.On(*profile)
		}
		group.Go(func() error {
			begun := time.Now()
			failures[i] = s.Run(t.Context(), checkout, *tests, os.Stdout)
			took[i] = time.Since(begun).Round(time.Second)
			return nil
		})
	}
	require.NoError(t, group.Wait())
	ran := false
	for i, s := range suites { // what failed stands where the output ends
		t.Run(s.Name, func(t *testing.T) {
			t.Logf("took %s", took[i])
			if errors.Is(failures[i], node.ErrNoTests) && *tests != "" {
				t.Log(failures[i])
				return
			}
			ran = true
			require.NoError(t, failures[i])
		})
	}
	require.True(t, ran, "nothing to run for -suite=%q -tests=%q", *suiteName, *tests)
}
