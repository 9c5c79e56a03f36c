// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/node"
	"github.com/sriovkit/sriovkit/e2e/vm"
)

var (
	suiteName = flag.String("suite", "", "run only the suite of this name")
	profile   = flag.String("profile", "", "run the suite on this profile of libsriov/sriovtest/quirk alone, with all of its tests")
	tests     = flag.String("tests", "", "regular expression of the tests to run on the node; empty is all")
)

// TestNodeSuites runs suites side by side, as many as -parallel allows: most wait for
// their hardware nearly half of the time.
func TestNodeSuites(t *testing.T) {
	vm.Need(t)
	checkout, err := filepath.Abs("../..")
	require.NoError(t, err)
	require.False(t, *profile != "" && *suiteName == "", "-profile needs a -suite")
	var ran atomic.Bool
	var failures sync.Map // errors of suites by name
	t.Cleanup(func() {    // after the parallel ones
		failures.Range(func(name, err any) bool { // once more, where the output ends
			t.Errorf("%s: %v", name, err)
			return true
		})
		if !ran.Load() {
			t.Errorf("nothing to run for -suite=%q -tests=%q; suites are in e2e/node/suite.go", *suiteName, *tests)
		}
	})
	for _, s := range node.All() {
		if *suiteName != "" && s.Name != *suiteName {
			continue
		}
		if *profile != "" {
			s = s.On(*profile)
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			err := s.Run(t.Context(), checkout, *tests, os.Stdout)
			if errors.Is(err, node.ErrNoTests) && *tests != "" {
				t.Log(err)
				return
			}
			ran.Store(true)
			if err != nil {
				failures.Store(s.Name, err)
				t.Fail()
			}
		})
	}
}
