package node_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/node"
	"github.com/sriovkit/sriovkit/e2e/vm"
)

var (
	suiteName = flag.String("suite", "", "run only the suite of this name")
	tests     = flag.String("tests", "", "regular expression of the tests to run on the node; empty is all")
)

// TestNodeSuites runs the suites, one node after the other: each takes all of a
// small machine.
func TestNodeSuites(t *testing.T) {
	vm.Need(t)
	checkout, err := filepath.Abs("../..")
	require.NoError(t, err)
	ran := 0
	for _, s := range node.Suites {
		if *suiteName != "" && s.Name != *suiteName {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			switch err := s.Run(t.Context(), checkout, *tests, os.Stdout); {
			case errors.Is(err, node.ErrNoTests) && *tests != "":
				t.Log(err)
			case err != nil:
				ran++
				t.Error(err)
			default:
				ran++
			}
		})
	}
	if ran == 0 {
		t.Fatalf("nothing to run for -suite=%q -tests=%q; suites are in e2e/node/suite.go", *suiteName, *tests)
	}
}
