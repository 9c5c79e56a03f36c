package release

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/component"
)

// install installs every binary of the module, into an empty module cache, and
// asks it for its version. A library is built through a module that requires it.
func (r Rehearsal) install(ctx context.Context) error {
	work, err := os.MkdirTemp("", "sriovkit-release-")
	if err != nil {
		return err
	}
	// The module cache is read only, which os.RemoveAll does not overcome.
	defer os.RemoveAll(work)
	defer run(context.WithoutCancel(ctx), work, nil, "chmod", "-R", "u+w", work) //nolint:errcheck // what remains is in /tmp
	proxy := filepath.Join(work, "proxy")
	if err := publish(ctx, r.Checkout, proxy, r.Module, r.Version); err != nil {
		return err
	}
	usual, err := run(ctx, r.Checkout, nil, "go", "env", "GOPROXY")
	if err != nil {
		return err
	}
	env := []string{
		"GOWORK=off", "GOFLAGS=-modcacherw", "CGO_ENABLED=0",
		"GOPROXY=file://" + proxy + "," + strings.TrimSpace(usual),
		"GONOSUMDB=" + Prefix + "*", // not in any checksum database yet
		"GOMODCACHE=" + filepath.Join(work, "mod"),
		"GOBIN=" + filepath.Join(work, "bin"),
	}
	binaries, err := filepath.Glob(filepath.Join(r.Checkout, r.Module, "cmd", "*"))
	if err != nil {
		return err
	}
	if len(binaries) == 0 {
		return r.buildLibrary(ctx, filepath.Join(work, "consumer"), env)
	}
	for _, b := range binaries {
		name := filepath.Base(b)
		fmt.Fprintf(r.Log, "%s %s: go install %s%s/cmd/%s@%[2]s\n", r.Module, r.Version, Prefix, r.Module, name)
		pkg := Prefix + r.Module + "/cmd/" + name + "@" + r.Version
		if _, err := run(ctx, work, env, append(append([]string{"go", "install"}, component.Flags(r.Version)...), pkg)...); err != nil {
			return err
		}
		out, err := run(ctx, work, nil, filepath.Join(work, "bin", name), "-version")
		if err != nil {
			return err
		}
		if !strings.Contains(out, r.Version) {
			return fmt.Errorf("%s -version prints %q, want %s in it", name, strings.TrimSpace(out), r.Version)
		}
	}
	return nil
}

func (r Rehearsal) buildLibrary(ctx context.Context, dir string, env []string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	module := Prefix + r.Module
	for _, args := range [][]string{
		{"go", "mod", "init", "consumer.test"},
		{"go", "get", module + "/...@" + r.Version},
		{"go", "build", module + "/..."},
	} {
		fmt.Fprintf(r.Log, "%s %s: %s\n", r.Module, r.Version, strings.Join(args, " "))
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
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}
