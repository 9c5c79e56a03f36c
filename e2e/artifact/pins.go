// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/stage"
)

// KubernetesVariable and ContainerdVariable choose another version than the default, as
// 1.36 or 1.7: one that has a file of pins of its own beside the module's go.mod.
const (
	KubernetesVariable = "SRIOVKIT_KUBERNETES"
	ContainerdVariable = "SRIOVKIT_CONTAINERD"
)

// pins are a nested module of which there are several sets of versions: go.mod has the
// default, VERSION.mod and VERSION.sum another.
type pins struct {
	dir      string // of the nested module
	variable string // that names another version
	version  string // "" is the default
}

func pinsOf(ctx context.Context, module, variable string) (pins, error) {
	src, err := moduleDir(ctx)
	if err != nil {
		return pins{}, err
	}
	p := pins{dir: filepath.Join(src, module), variable: variable}
	version := os.Getenv(variable)
	if version == "" {
		return p, nil
	}
	others, err := filepath.Glob(filepath.Join(p.dir, "*.mod"))
	if err != nil {
		return pins{}, err
	}
	others = slices.DeleteFunc(others, func(o string) bool { return filepath.Base(o) == "go.mod" })
	for i, o := range others {
		others[i] = strings.TrimSuffix(filepath.Base(o), ".mod")
	}
	if slices.Contains(others, version) {
		p.version = version
		return p, nil
	}
	newest, err := p.of(ctx, p.product(module))
	if err != nil {
		return pins{}, err
	}
	if strings.HasPrefix(newest, "v"+version+".") {
		return p, nil
	}
	return pins{}, fmt.Errorf("%s is %q, want one of %s, or nothing for the default, %s", variable, version, strings.Join(others, ", "), newest)
}

// product is the module whose version is what people mean.
func (p pins) product(module string) string {
	if module == "containerd" {
		return p.containerd()
	}
	return "k8s.io/kubernetes"
}

// files are the names of the module's files of versions.
func (p pins) files() []string {
	if p.version == "" {
		return []string{"go.mod", "go.sum"}
	}
	return []string{p.version + ".mod", p.version + ".sum"}
}

// args are for go build and go list.
func (p pins) args() []string {
	if p.version == "" {
		return nil
	}
	return []string{"-modfile=" + p.version + ".mod"}
}

// of returns the version of a module that is pinned.
func (p pins) of(ctx context.Context, module string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"list", "-m", "-f", "{{.Version}}"}, p.args(), []string{module})...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), nested...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("version of %s: %w: %s", module, err, strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// Versions are those of Kubernetes and containerd that clusters are made of.
func Versions(ctx context.Context) (kubernetes, containerd string, err error) {
	k, err := pinsOf(ctx, "kubernetes", KubernetesVariable)
	if err != nil {
		return "", "", err
	}
	if kubernetes, err = k.of(ctx, k.product("kubernetes")); err != nil {
		return "", "", err
	}
	c, err := pinsOf(ctx, "containerd", ContainerdVariable)
	if err != nil {
		return "", "", err
	}
	containerd, err = c.of(ctx, c.containerd())
	return kubernetes, containerd, err
}

// containerd is the path of its module, which has the major version from 2 on.
func (p pins) containerd() string {
	if strings.HasPrefix(p.version, "1.") {
		return "github.com/containerd/containerd"
	}
	return "github.com/containerd/containerd/v2"
}

// ContainerdMajor is the major version of the containerd that clusters are made of, which
// its configuration depends on.
func ContainerdMajor(ctx context.Context) (int, error) {
	p, err := pinsOf(ctx, "containerd", ContainerdVariable)
	if strings.HasPrefix(p.version, "1.") {
		return 1, err
	}
	return 2, err
}

// build is goBuild with these versions.
func (p pins) build(ctx context.Context, b *stage.Build, args ...string) error {
	return goBuild(ctx, b, p.dir, append(p.args(), args...)...)
}
