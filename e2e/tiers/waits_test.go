// SPDX-License-Identifier: Apache-2.0

package tiers_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// waits has the assertions that run their condition in another goroutine.
var waits = map[string]bool{"Eventually": true, "Eventuallyf": true, "EventuallyWithT": true, "EventuallyWithTf": true, "Never": true, "Neverf": true}

// A condition that is waited for fails its own collector. One that fails the test does so in
// another goroutine, which outlives it where the machine is slow, and then ends all tests of
// the package in a panic.
func TestConditionsFailTheirCollector(t *testing.T) {
	t.Parallel()
	found := 0
	require.NoError(t, filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata" || d.Name() == "bin"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go"):
			return nil
		}
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if call, name, on := called(n); waits[name] && (on == "require" || on == "assert") && len(call.Args) > 1 {
				if condition, ok := call.Args[1].(*ast.FuncLit); ok {
					found++
					for _, at := range failsAnother(condition) {
						t.Errorf("%s: fails a test from another goroutine: use EventuallyWithT and its collector", files.Position(at))
					}
				}
			}
			return true
		})
		return nil
	}))
	require.Greater(t, found, 20, "the list is not cut short")
}

// called is a call of a function or method of something with a name.
func called(n ast.Node) (call *ast.CallExpr, name, on string) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return nil, "", ""
	}
	if s, ok := call.Fun.(*ast.SelectorExpr); ok {
		if x, ok := s.X.(*ast.Ident); ok {
			return call, s.Sel.Name, x.Name
		}
	}
	return call, "", ""
}

// failsAnother finds the assertions of a condition that are not of its collector.
func failsAnother(condition *ast.FuncLit) (at []token.Pos) {
	collector := ""
	if p := condition.Type.Params.List; len(p) == 1 && len(p[0].Names) == 1 {
		collector = p[0].Names[0].Name
	}
	ast.Inspect(condition.Body, func(n ast.Node) bool {
		call, _, on := called(n)
		if (on == "require" || on == "assert") && len(call.Args) > 0 {
			if of, ok := call.Args[0].(*ast.Ident); !ok || of.Name != collector {
				at = append(at, call.Pos())
			}
		}
		return true
	})
	return at
}
