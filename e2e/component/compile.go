// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/process"
)

// here is the platform of this machine.
const here = "linux/" + runtime.GOARCH

// Version is what programs report that are of no release.
const Version = "devel"

// Compile builds a program as it is shipped, wherever it is built: by the module's own
// go.mod, as go install of a release does, and without anything of the machine or the
// directory in it. Dockerfiles and the rehearsal of releases have the same flags, which
// tests compare.
//
// Package is relative to the module, such as ./cmd/sriov; platform is such as linux/arm64.
func Compile(ctx context.Context, checkout, module, pkg, to, platform, version string) error {
	system, arch, _ := strings.Cut(platform, "/")
	build := exec.CommandContext(ctx, "go", append(append([]string{"build"}, Flags(version)...), "-buildvcs=false", "-o", to, pkg)...)
	build.Dir = filepath.Join(checkout, module)
	build.Env = append(os.Environ(), append(Environment(), "GOOS="+system, "GOARCH="+arch)...)
	process.Interruptible(build)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s of %s for %s: %w\n%s", pkg, module, platform, err, out)
	}
	return nil
}

// Flags are those of go build, and of go install, for programs that are shipped. Without the
// trace pages of gRPC the linker leaves out templates and a fifth of sriovdp
// (https://pkg.go.dev/google.golang.org/grpc#EnableTracing).
func Flags(version string) []string {
	return []string{"-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w -X main.version=" + version}
}

// Environment has the variables that belong to Flags.
func Environment() []string { return []string{"CGO_ENABLED=0", "GOWORK=off"} }

// Programs builds the programs of the components under their own names into dir, for this
// machine.
func Programs(ctx context.Context, checkout, dir string, names ...string) error {
	known := map[string]bool{}
	for _, c := range All {
		for _, pkg := range c.Programs {
			name := filepath.Base(pkg)
			known[name] = true
			if len(names) > 0 && !slices.Contains(names, name) {
				continue
			}
			to, err := filepath.Abs(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			if err := Compile(ctx, checkout, c.Name, pkg, to, here, Version); err != nil {
				return err
			}
		}
	}
	for _, name := range names {
		if !known[name] {
			return fmt.Errorf("program %q, want one of the components', such as sriov", name)
		}
	}
	return nil
}
