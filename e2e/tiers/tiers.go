// SPDX-License-Identifier: Apache-2.0

// Package tiers says which tier of tests runs each test, fuzz target and benchmark of
// the workspace, and finds those that none runs or more than one.
//
// A test declares its tier by a guard, a call that skips it elsewhere, itself or through
// the helpers it calls; its name begins with the tier's, so that the suites find it:
//
//	host     no guard           any other name   make test-host
//	node     sriovtest.NeedNode TestNode…        make test-node, inside an emulated node
//	         vm.Need            TestNode…        make test-node, beside the nodes it boots
//	cluster  cluster.Need       TestCluster…     make test-cluster
//	long     cluster.NeedLong   TestLong…        make test-long, not part of make test
//
// Fuzz targets and benchmarks are of the host tier: make test-fuzz, make test-bench.
package tiers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Tier is a set of tests that one command runs.
type Tier string

// The tiers.
const (
	Host    Tier = "host"
	Node    Tier = "node"
	Cluster Tier = "cluster"
	Long    Tier = "long"
)

const prefix = "github.com/sriovkit/sriovkit/"

// guards are the functions that skip a test outside its tier.
var guards = map[string]Tier{
	prefix + "libsriov/sriovtest.NeedNode": Node,
	prefix + "e2e/vm.Need":                 Node,
	prefix + "e2e/cluster.Need":            Cluster,
	prefix + "e2e/cluster.NeedLong":        Long,
}

// inNode is the guard of tests that run inside a node, for which a suite has to exist.
const inNode = prefix + "libsriov/sriovtest.NeedNode"

// advice is how a test of each tier gets its guard.
var advice = map[Tier]string{
	Node:    "sriovtest.NeedNode(t)",
	Cluster: "cluster.Need(t)",
	Long:    "cluster.NeedLong(t)",
}

// Kind is what the testing package does with a function.
type Kind string

// The kinds.
const (
	Test      Kind = "Test"
	Fuzz      Kind = "Fuzz"
	Benchmark Kind = "Benchmark"
)

// Function is a test, fuzz target or benchmark of the workspace.
type Function struct {
	Package  string // import path
	Name     string
	Kind     Kind
	Position string   // file, relative to the checkout, and line
	Guards   []string // guards it calls, sorted, as import path and name
	NotBuilt string   // why no command compiles it; empty is the usual
	Nested   bool     // its module is outside the workspace, and is tested on its own
	Tested   bool     // a recipe of the Makefile tests the nested module
}

// Tier is where the function runs. It is meant for functions without Faults.
func (f Function) Tier() Tier {
	for _, g := range f.Guards {
		return guards[g]
	}
	return Host
}

// Suite is a directory whose tests of the node tier run inside nodes: those that match
// Tests, where empty is all.
type Suite struct{ Name, Dir, Tests string }

// Faults names the functions that run in no tier, or in more than one, and says what to
// do about each.
func Faults(functions []Function, suites []Suite) []string {
	var faults []string
	for _, f := range functions {
		if fault := f.fault(suites); fault != "" {
			faults = append(faults, fmt.Sprintf("%s: %s %s", f.Position, f.Name, fault))
		}
	}
	slices.Sort(faults)
	return faults
}

func (f Function) fault(suites []Suite) string {
	named := Host
	switch {
	case f.Kind != Test:
	case strings.HasPrefix(f.Name, "TestNode"):
		named = Node
	case strings.HasPrefix(f.Name, "TestCluster"):
		named = Cluster
	case strings.HasPrefix(f.Name, "TestLong"):
		named = Long
	}
	switch {
	case f.NotBuilt != "":
		return "runs nowhere: " + f.NotBuilt
	case f.Nested && !f.Tested:
		return "runs nowhere: no recipe of the Makefile has cd into its module and go test"
	case f.Nested && f.Kind != Test:
		return "runs nowhere: fuzz targets and benchmarks of modules outside the workspace are not looked for"
	case len(f.Guards) > 1:
		return fmt.Sprintf("has the guards of two tiers, %s: split it", strings.Join(f.Guards, " and "))
	case f.Kind != Test && len(f.Guards) > 0:
		return fmt.Sprintf("calls %s, but fuzz targets and benchmarks run on this machine only", f.Guards[0])
	case named == Host && len(f.Guards) > 0:
		return fmt.Sprintf("runs nowhere: it calls %s, but no suite looks for its name; begin it with %s", f.Guards[0], f.Tier().name())
	case named != Host && len(f.Guards) == 0:
		return fmt.Sprintf("is named as a test of the %s tier and has no guard: begin it with %s, or name it otherwise", named, advice[named])
	case named != f.Tier():
		return fmt.Sprintf("is named as a test of the %s tier and calls %s of the %s tier", named, f.Guards[0], f.Tier())
	case len(f.Guards) > 0 && f.Guards[0] != inNode && !strings.HasPrefix(f.Package, prefix+"e2e/"):
		return fmt.Sprintf("runs nowhere: tests that call %s are looked for in module e2e only", f.Guards[0])
	case len(f.Guards) > 0 && f.Guards[0] == inNode:
		return f.suiteFault(suites)
	}
	return ""
}

func (f Function) suiteFault(suites []Suite) string {
	var of, not []string
	for _, s := range suites {
		pkg := strings.TrimPrefix(f.Package, prefix)
		switch {
		case pkg != s.Dir && !strings.HasPrefix(pkg, s.Dir+"/"):
		case !regexp.MustCompile(s.Tests).MatchString(f.Name):
			not = append(not, s.Name)
		default:
			of = append(of, s.Name)
		}
	}
	switch {
	case len(of) == 0 && len(not) > 0:
		return fmt.Sprintf("runs nowhere: the patterns of %s in e2e/node/suite.go leave it out", strings.Join(not, " and "))
	case len(of) == 0:
		return "runs nowhere: no suite has its package; add one to Suites in e2e/node/suite.go"
	case len(of) == 1:
		return ""
	}
	return fmt.Sprintf("runs twice: it is in the suites %s of e2e/node/suite.go", strings.Join(of, " and "))
}

func (t Tier) name() string { return "Test" + strings.ToUpper(string(t[:1])) + string(t[1:]) }

// Load lists the functions of the checkout, also of files that no build includes.
func Load(ctx context.Context, checkout string) ([]Function, error) {
	_ = os.Getenv("SRIOVKIT_SOURCES") // the test cache does not see other modules
	checkout, err := filepath.Abs(checkout)
	if err != nil {
		return nil, err
	}
	workspace, err := readWorkspace(ctx, checkout)
	if err != nil {
		return nil, err
	}
	s := source{checkout: checkout, modules: workspace, calls: map[string]map[string]bool{}}
	if err := s.read(); err != nil {
		return nil, err
	}
	for i := range s.functions {
		f := &s.functions[i]
		f.Guards = s.guardsOf(scope{f.Package, true}.name(f.Name))
	}
	return s.functions, nil
}
