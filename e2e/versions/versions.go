// SPDX-License-Identifier: Apache-2.0

// Package versions finds out whether what is tested is what is shipped: tests run in the
// workspace, where the highest version that any module asks for counts, and programs are
// built from each module alone, by its own go.mod.
package versions

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// prefix is what the paths of the workspace's own modules begin with.
const prefix = "github.com/sriovkit/sriovkit/"

// Faults compares each module of the workspace alone with the same module in the
// workspace, over all packages that its packages and tests need, and looks at the form of
// go.mod. Each fault names the module and what mends it.
func Faults(ctx context.Context, checkout string) ([]string, error) {
	_ = os.Getenv("SRIOVKIT_SOURCES") // the test cache does not see other modules
	work, err := goTool(ctx, checkout, nil, "work", "edit", "-json")
	if err != nil {
		return nil, err
	}
	var workspace struct {
		Go  string
		Use []struct{ DiskPath string }
	}
	if err := json.Unmarshal(work, &workspace); err != nil {
		return nil, fmt.Errorf("go.work: %w", err)
	}
	var faults []string
	for _, use := range workspace.Use {
		name := filepath.Clean(use.DiskPath)
		dir := filepath.Join(checkout, name)
		form, err := formFaults(dir, workspace.Go)
		if err != nil {
			return nil, err
		}
		together, err := resolved(ctx, dir)
		if err != nil {
			return nil, fmt.Errorf("%s in the workspace: %w", name, err)
		}
		alone, err := resolved(ctx, dir, "GOWORK=off")
		if err != nil {
			return nil, fmt.Errorf("%s alone: %w", name, err)
		}
		for _, f := range append(form, differences(alone, together)...) {
			faults = append(faults, name+": "+f)
		}
	}
	return faults, nil
}

// differences names the modules that have another version alone than in the workspace.
func differences(alone, together map[string]string) []string {
	paths := map[string]bool{}
	for path := range alone {
		paths[path] = true
	}
	for path := range together {
		paths[path] = true
	}
	say := func(version string) string {
		if version == "" {
			return "not there"
		}
		return version
	}
	var faults []string
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if a, w := alone[path], together[path]; a != w {
			faults = append(faults, fmt.Sprintf("%s is %s alone (GOWORK=off), as it is shipped, and %s in the workspace, as it is tested; run make versions", path, say(a), say(w)))
		}
	}
	return faults
}

// resolved are the versions of the modules that have a package which the packages and
// tests of the module in dir need.
func resolved(ctx context.Context, dir string, env ...string) (map[string]string, error) {
	out, err := goTool(ctx, dir, env, "list", "-deps", "-test", "-f", "{{with .Module}}{{.Path}} {{.Version}}{{end}}", "./...")
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if path, version, _ := strings.Cut(strings.TrimSpace(line), " "); path != "" && !strings.HasPrefix(path, prefix) {
			found[path] = version
		}
	}
	return found, nil
}

// formFaults looks at the Go version of a go.mod and at its blocks: what the module needs
// itself in one, what those need in another, as go mod tidy lays out a new file.
func formFaults(dir, goVersion string) ([]string, error) {
	file := filepath.Join(dir, "go.mod")
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	mod, err := modfile.Parse(file, text, nil)
	if err != nil {
		return nil, err
	}
	var faults []string
	if mod.Go == nil || mod.Go.Version != goVersion {
		faults = append(faults, fmt.Sprintf("go.mod says go %s, go.work %s; make them one", version(mod.Go), goVersion))
	}
	blocks := map[bool]int{} // by whether its first line is indirect
	for _, statement := range mod.Syntax.Stmt {
		switch s := statement.(type) {
		case *modfile.Line:
			if s.Token[0] == "require" {
				blocks[isIndirect(s)]++
			}
		case *modfile.LineBlock:
			if s.Token[0] != "require" {
				continue
			}
			blocks[isIndirect(s.Line[0])]++
			for _, line := range s.Line {
				if isIndirect(line) != isIndirect(s.Line[0]) {
					faults = append(faults, fmt.Sprintf("go.mod line %d: direct and indirect requirements in one block; move %s to the other", line.Start.Line, line.Token[0]))
				}
			}
		}
	}
	if blocks[true] > 1 || blocks[false] > 1 {
		faults = append(faults, fmt.Sprintf("go.mod has %d blocks of direct and %d of indirect requirements; make them one each", blocks[false], blocks[true]))
	}
	return faults, nil
}

func version(g *modfile.Go) string {
	if g == nil {
		return "nothing"
	}
	return g.Version
}

func isIndirect(line *modfile.Line) bool {
	return len(line.Suffix) > 0 && strings.HasPrefix(line.Suffix[0].Token, "// indirect")
}

func goTool(ctx context.Context, dir string, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out, nil
}
