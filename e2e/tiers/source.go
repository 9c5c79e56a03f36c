// SPDX-License-Identifier: Apache-2.0

package tiers

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/modfile"
)

// source is what the Go files of a checkout declare, by syntax alone.
type source struct {
	checkout  string
	modules   map[string]module // by directory, relative to checkout
	functions []Function
	// calls has, for every function, method and variable of a package, those it names.
	// A method stands under its name alone, whatever it is declared on.
	calls map[string]map[string]bool
}

// module is one that make test goes through.
type module struct {
	nested bool // outside the workspace
	tested bool // by a recipe of the Makefile
}

// nested is the line of the Makefile that names modules outside the workspace whose tests
// and checks make test runs, too.
var nested = regexp.MustCompile(`(?m)^NESTED *:= *(.*)$`)

// readWorkspace returns the directories of the modules that make test goes through.
func readWorkspace(ctx context.Context, checkout string) (map[string]module, error) {
	cmd := exec.CommandContext(ctx, "go", "work", "edit", "-json")
	cmd.Dir = checkout
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("read go.work: %w", err)
	}
	var work struct{ Use []struct{ DiskPath string } }
	if err := json.Unmarshal(out, &work); err != nil {
		return nil, fmt.Errorf("read go.work: %w", err)
	}
	dirs := map[string]module{}
	for _, use := range work.Use {
		dirs[filepath.Clean(use.DiskPath)] = module{tested: true}
	}
	makefile, err := os.ReadFile(filepath.Join(checkout, "Makefile"))
	if err != nil {
		return nil, err
	}
	if line := nested.FindSubmatch(makefile); line != nil {
		for _, dir := range strings.Fields(string(line[1])) {
			recipe := regexp.MustCompile(`(?m)^\t.*\bcd ` + regexp.QuoteMeta(dir) + ` .*\bgo test `)
			dirs[dir] = module{nested: true, tested: recipe.Match(makefile)}
		}
	}
	return dirs, nil
}

// read parses every Go file below the checkout. What the go command passes over is
// passed over here: testdata, and names that begin with a dot or an underscore.
func (s *source) read() error {
	modules := map[string][2]string{} // directory to the module's path and directory
	return filepath.WalkDir(s.checkout, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file != s.checkout && (name == "testdata" || name == "vendor" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return filepath.SkipDir
			}
			module, err := moduleOf(file)
			if err != nil {
				return err
			}
			if module == "" {
				modules[file] = modules[filepath.Dir(file)]
			} else {
				modules[file] = [2]string{module, file}
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		module := modules[filepath.Dir(file)]
		return s.readFile(file, module[0], module[1])
	})
}

// moduleOf returns the path of the module that dir is the root of, if any.
func moduleOf(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if os.IsNotExist(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return modfile.ModulePath(text), nil
}

func (s *source) readFile(file, module, moduleDir string) error {
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	within, err := filepath.Rel(moduleDir, filepath.Dir(file))
	if err != nil {
		return err
	}
	pkg := path.Join(module, filepath.ToSlash(within))
	scope := scope{pkg, strings.HasSuffix(file, "_test.go")}
	moduleRel, err := filepath.Rel(s.checkout, moduleDir)
	if err != nil {
		return err
	}
	notBuilt, err := s.notBuilt(file, module, moduleRel)
	if err != nil {
		return err
	}
	imports := map[string]string{}
	for _, i := range parsed.Imports {
		target, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return err
		}
		name := path.Base(target)
		if i.Name != nil {
			name = i.Name.Name
		}
		imports[name] = target
	}
	for _, decl := range parsed.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			s.link(scope, decl.Name.Name, decl, imports)
			if kind := kindOf(decl); kind != "" && scope.isTest {
				at := set.Position(decl.Pos())
				rel, err := filepath.Rel(s.checkout, at.Filename)
				if err != nil {
					return err
				}
				s.functions = append(s.functions, Function{
					Package: pkg, Name: decl.Name.Name, Kind: kind, Position: fmt.Sprintf("%s:%d", rel, at.Line), NotBuilt: notBuilt,
					Nested: s.modules[moduleRel].nested, Tested: s.modules[moduleRel].tested,
				})
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				if v, ok := spec.(*ast.ValueSpec); ok {
					for _, name := range v.Names {
						s.link(scope, name.Name, v, imports)
					}
				}
			}
		}
	}
	return nil
}

// notBuilt says why no test command compiles the file.
func (s *source) notBuilt(file, module, moduleDir string) (string, error) {
	if module == "" {
		return "it is in no module", nil
	}
	if _, known := s.modules[moduleDir]; !known {
		return fmt.Sprintf("module %s is neither in go.work nor in NESTED of the Makefile", module), nil
	}
	match, err := build.Default.MatchFile(filepath.Dir(file), filepath.Base(file))
	if err == nil && !match {
		return "its build constraints are met by no command", nil
	}
	return "", err
}

// kindOf is what the testing package takes a function for, as go test decides.
func kindOf(decl *ast.FuncDecl) Kind {
	if decl.Recv != nil || decl.Type.Params.NumFields() != 1 {
		return ""
	}
	pointer, ok := decl.Type.Params.List[0].Type.(*ast.StarExpr)
	if !ok {
		return ""
	}
	param := ""
	switch x := pointer.X.(type) {
	case *ast.SelectorExpr:
		param = x.Sel.Name
	case *ast.Ident: // of a dot import
		param = x.Name
	}
	for kind, want := range map[Kind]string{Test: "T", Fuzz: "F", Benchmark: "B"} {
		rest, has := strings.CutPrefix(decl.Name.Name, string(kind))
		first, _ := utf8.DecodeRuneInString(rest)
		if has && param == want && (rest == "" || !unicode.IsLower(first)) {
			return kind
		}
	}
	return ""
}

// scope is where a name is declared. Test files see the names of their package; only
// test files see those of test files.
type scope struct {
	pkg    string
	isTest bool
}

const inTestFiles = " (test)"

func (c scope) name(name string) string {
	if c.isTest {
		return c.pkg + inTestFiles + "." + name
	}
	return c.pkg + "." + name
}

// sees are the declarations that a name without a package may mean.
func (c scope) sees(name string) []string {
	if c.isTest {
		return []string{c.name(name), c.pkg + "." + name}
	}
	return []string{c.name(name)}
}

// link notes everything that a declaration names.
func (s *source) link(in scope, name string, decl ast.Node, imports map[string]string) {
	from := in.name(name)
	if s.calls[from] == nil {
		s.calls[from] = map[string]bool{}
	}
	add := func(names ...string) {
		for _, n := range names {
			s.calls[from][n] = true
		}
	}
	var visit func(n ast.Node) bool
	visit = func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			if _, isField := n.Key.(*ast.Ident); isField {
				ast.Inspect(n.Value, visit)
				return false
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Obj == nil && imports[x.Name] != "" {
				add(imports[x.Name] + "." + n.Sel.Name)
				return false
			}
			add(in.sees(n.Sel.Name)...) // perhaps a method
			ast.Inspect(n.X, visit)
			return false
		case *ast.Ident:
			if n.Obj == nil || n.Obj.Kind == ast.Fun {
				add(in.sees(n.Name)...)
			} else if _, isSpec := n.Obj.Decl.(*ast.ValueSpec); isSpec && n.Obj.Kind == ast.Var { // perhaps the package's
				add(in.sees(n.Name)...)
			}
		}
		return true
	}
	ast.Inspect(decl, visit)
}

// guardsOf are the guards that a function reaches.
func (s *source) guardsOf(function string) []string {
	seen, found := map[string]bool{function: true}, map[string]bool{}
	for rest := []string{function}; len(rest) > 0; {
		next := rest[0]
		rest = rest[1:]
		if _, is := guards[next]; is {
			found[next] = true
			continue // what a guard calls is no guard of the test
		}
		for callee := range s.calls[next] {
			if !seen[callee] {
				seen[callee] = true
				rest = append(rest, callee)
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
