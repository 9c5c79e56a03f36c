// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/mod/module"

	"github.com/sriovkit/sriovkit/e2e/component"
)

// environment is that of a user who has nothing of this repository but the proxy.
func (r *Release) environment(ctx context.Context) ([]string, error) {
	usual, err := run(ctx, r.work, nil, "go", "env", "GOPROXY")
	if err != nil {
		return nil, err
	}
	return []string{
		// With -trimpath what is compiled depends on no directory, and is compiled once.
		"GOWORK=off", "GOFLAGS=-modcacherw -trimpath", "CGO_ENABLED=0",
		"GOPROXY=file://" + r.proxy + "," + strings.TrimSpace(usual),
		"GONOSUMDB=" + Prefix + "*", // not in any checksum database yet
		"GOMODCACHE=" + filepath.Join(r.work, "mod"),
		"GOBIN=" + filepath.Join(r.work, "bin"),
	}, nil
}

// build builds the tag in a clone of the repository, as whoever checks it out does.
func (r *Release) build(ctx context.Context) error {
	env, err := r.environment(ctx)
	if err != nil {
		return err
	}
	_, err = run(ctx, filepath.Join(r.clone, r.Module), env, "go", "build", "./...")
	return err
}

// install installs every binary of the module, into an empty module cache, and
// asks it for its version. A library is built through a module that requires it.
func (r *Release) install(ctx context.Context) error {
	// Not before: gorelease refuses a version that the proxy lists already.
	if err := r.publish(ctx, module.Version{Path: Prefix + r.Module, Version: r.Version}); err != nil {
		return err
	}
	env, err := r.environment(ctx)
	if err != nil {
		return err
	}
	binaries, err := filepath.Glob(filepath.Join(r.clone, r.Module, "cmd", "*"))
	if err != nil {
		return err
	}
	if len(binaries) == 0 {
		return r.buildLibrary(ctx, filepath.Join(r.work, "consumer"), env)
	}
	for _, b := range binaries {
		name := filepath.Base(b)
		pkg := Prefix + r.Module + "/cmd/" + name + "@" + r.Version
		args := append(append([]string{"go", "install"}, component.Flags(r.Version)...), pkg)
		fmt.Fprintf(r.Log, "%s: go install %s\n", r.tag(), pkg)
		if _, err := run(ctx, r.work, env, args...); err != nil {
			return err
		}
		if tool(r.Module, name) {
			continue
		}
		out, err := run(ctx, r.work, nil, filepath.Join(r.work, "bin", name), "-version")
		if err != nil {
			return err
		}
		fmt.Fprintf(r.Log, "%s: %s -version: %s\n", r.tag(), name, strings.TrimSpace(out))
		if !strings.Contains(out, r.Version) {
			return fmt.Errorf("%s -version prints %q, want %s in it", name, strings.TrimSpace(out), r.Version)
		}
	}
	return nil
}

// tool reports whether a command is for work inside a checkout alone: it can be installed,
// and has no version of its own.
func tool(module, name string) bool { return module == "e2e" && name != "sriov-conformance" }

func (r *Release) buildLibrary(ctx context.Context, dir string, env []string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	path := Prefix + r.Module
	for _, args := range [][]string{
		{"go", "mod", "init", "consumer.test"},
		{"go", "get", path + "/...@" + r.Version},
		{"go", "build", path + "/..."},
	} {
		fmt.Fprintf(r.Log, "%s: %s\n", r.tag(), strings.Join(args, " "))
		if _, err := run(ctx, dir, env, args...); err != nil {
			return err
		}
	}
	return nil
}

// run runs a program and returns its output; an error carries what it printed.
func run(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}
