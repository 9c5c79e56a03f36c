// SPDX-License-Identifier: Apache-2.0

package libsriov_test

import (
	"bytes"
	"go/ast"
	"go/build"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a package exports on Linux it exports elsewhere, too, so that whoever imports it can
// be edited and vetted on any system.
func TestOtherSystems(t *testing.T) {
	t.Parallel()
	require.NoError(t, filepath.WalkDir(".", func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if d.Name() == "internal" || d.Name() == "sriovtest" || d.Name() == "testdata" {
			return fs.SkipDir
		}
		linux := exported(t, dir, "linux")
		for _, system := range []string{"darwin", "windows"} {
			require.Equal(t, linux, exported(t, dir, system), "%s on %s", dir, system)
		}
		return nil
	}))
}

// exported is each exported function, and method of an exported type, of a package on an
// operating system, with the types of its parameters and results.
func exported(t *testing.T, dir, system string) map[string]string {
	t.Helper()
	target := build.Default
	target.GOOS = system
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	out := map[string]string{}
	for _, file := range files {
		match, err := target.MatchFile(dir, filepath.Base(file))
		require.NoError(t, err)
		if !match || strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !f.Name.IsExported() {
				continue
			}
			receiver := ""
			if f.Recv != nil {
				receiver = strings.TrimPrefix(types(t, f.Recv), "*")
			}
			if receiver == "" || ast.IsExported(receiver) {
				out[receiver+"."+f.Name.Name] = types(t, f.Type.Params) + " -> " + types(t, f.Type.Results)
			}
		}
	}
	return out
}

func types(t *testing.T, list *ast.FieldList) string {
	t.Helper()
	var all []string
	if list == nil {
		return ""
	}
	for _, field := range list.List {
		var text bytes.Buffer
		require.NoError(t, format.Node(&text, token.NewFileSet(), field.Type))
		for range max(1, len(field.Names)) {
			all = append(all, text.String())
		}
	}
	return strings.Join(all, ", ")
}
