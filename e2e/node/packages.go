// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/component"
)

// testPackage is a Go package with node tests.
type testPackage struct {
	path  string // import path
	dir   string
	name  string   // of its directory on the node, unique in the suite
	tests []string // what to run; set by build
}

// packages finds the packages of s that declare TestNode functions.
func (s Suite) packages(ctx context.Context, checkout string) ([]testPackage, error) {
	dir := filepath.Join(checkout, s.Dir)
	cmd := exec.CommandContext(ctx, "go", "list", "-f", "{{.ImportPath}}\t{{.Dir}}", "./...")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages below %s: %w", dir, err)
	}
	var found []testPackage
	for line := range strings.Lines(string(out)) {
		path, pkgDir, _ := strings.Cut(strings.TrimSpace(line), "\t")
		has, err := declaresNodeTest(pkgDir)
		if err != nil {
			return nil, err
		}
		if has {
			name := strings.ReplaceAll(strings.TrimPrefix(pkgDir, filepath.Dir(dir)+"/"), "/", "-")
			found = append(found, testPackage{path: path, dir: pkgDir, name: name})
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no package below %s declares a function TestNode…", dir)
	}
	return found, nil
}

var nodeTest = regexp.MustCompile(`(?m)^func TestNode\w*\(`)

func declaresNodeTest(dir string) (bool, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return false, err
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return false, err
		}
		if nodeTest.Match(text) {
			return true, nil
		}
	}
	return false, nil
}

// build fills dir with what the node needs: bin/ and, for each test package that
// has tests matching pattern, a directory with the test binary and testdata. It
// returns those packages.
func (s Suite) build(ctx context.Context, checkout, dir, pattern string, packages []testPackage) ([]testPackage, error) {
	run := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = filepath.Join(checkout, s.Dir)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	var matching []testPackage
	for _, p := range packages {
		work := filepath.Join(dir, p.name)
		if err := run("test", "-c", "-o", filepath.Join(work, "package.test"), p.path); err != nil {
			return nil, err
		}
		var err error
		if p.tests, err = listTests(ctx, work, pattern); err != nil {
			return nil, fmt.Errorf("list tests of %s: %w", p.path, err)
		}
		if len(p.tests) == 0 {
			continue
		}
		matching = append(matching, p)
		err = os.CopyFS(filepath.Join(work, "testdata"), os.DirFS(filepath.Join(p.dir, "testdata")))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("copy testdata of %s: %w", p.path, err)
		}
	}
	if len(matching) == 0 {
		return nil, nil
	}
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		return nil, err
	}
	for name, pkg := range s.Binaries {
		if err := component.Compile(ctx, checkout, s.Dir, pkg, filepath.Join(dir, "bin", name), "linux/amd64", component.Version); err != nil {
			return nil, err
		}
	}
	if len(s.Programs) == 0 {
		return matching, nil // none would be all
	}
	return matching, component.Programs(ctx, checkout, filepath.Join(dir, "bin"), s.Programs...)
}

// listTests asks the test binary in dir for its node tests that match pattern,
// of which the part after a slash is about subtests.
func listTests(ctx context.Context, dir, pattern string) ([]string, error) {
	top, _, _ := strings.Cut(pattern, "/")
	top = cmp.Or(top, "^TestNode") // an empty one would run the tests, not list them
	cmd := exec.CommandContext(ctx, "./package.test", "-test.list", top)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	var names []string
	for name := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(name, "TestNode") {
			names = append(names, name)
		}
	}
	return names, nil
}
