// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sriovkit/sriovkit/e2e/stage"
)

// kubernetesPrograms are the names the multi-call executable answers to
// (e2e/kubernetes/main.go).
var kubernetesPrograms = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"}

// BuildKubernetes returns the directory with etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler, kubelet and kubectl, all links to one
// static executable. From cold Go caches this takes 6 to 10 minutes on two cores
// and 4 GB of Go build cache.
func BuildKubernetes(ctx context.Context, cache *stage.Cache) (string, error) {
	s, err := kubernetesStage(ctx)
	if err != nil {
		return "", err
	}
	return cache.Get(ctx, s)
}

// HasKubernetes reports whether BuildKubernetes has nothing to do.
func HasKubernetes(ctx context.Context, cache *stage.Cache) (bool, error) {
	s, err := kubernetesStage(ctx)
	return err == nil && cache.Has(s), err
}

func kubernetesStage(ctx context.Context) (stage.Stage, error) {
	p, err := pinsOf(ctx, "kubernetes", KubernetesVariable)
	if err != nil {
		return stage.Stage{}, err
	}
	inputs, err := goInputs(ctx, p.dir, append(p.files(), "main.go")...)
	return stage.Stage{
		Name:    "kubernetes",
		Inputs:  append(inputs, kubernetesPrograms...),
		Timeout: 2 * time.Hour, // on two cores that had thirty other programs to run, half of it took 34 minutes
		Build: func(ctx context.Context, b *stage.Build) error {
			version, err := p.of(ctx, "k8s.io/kubernetes")
			if err != nil {
				return err
			}
			b.Step("compiling Kubernetes %s, 6 to 10 minutes the first time", version)
			// Without gitVersion the programs take themselves for v0.0.0 and judge version skew by that.
			if err := p.build(ctx, b, "-ldflags", "-s -w -X k8s.io/component-base/version.gitVersion="+version, "-o", b.Dir+"/kubernetes", "."); err != nil {
				return err
			}
			for _, p := range kubernetesPrograms {
				if err := os.Symlink("kubernetes", filepath.Join(b.Dir, p)); err != nil {
					return err
				}
			}
			return nil
		},
	}, err
}

// containerdTags leave out snapshotters that need C libraries or kernel features
// a node does not have.
const containerdTags = "no_btrfs no_devmapper no_zfs"

// BuildContainerd returns the directory with containerd, containerd-shim-runc-v2
// and ctr in bin/ and the CNI reference plugins in cni/.
func BuildContainerd(ctx context.Context, cache *stage.Cache) (string, error) {
	p, err := pinsOf(ctx, "containerd", ContainerdVariable)
	if err != nil {
		return "", err
	}
	inputs, err := goInputs(ctx, p.dir, p.files()...)
	if err != nil {
		return "", err
	}
	return cache.Get(ctx, stage.Stage{
		Name:   "containerd",
		Inputs: append(inputs, containerdTags),
		Build: func(ctx context.Context, b *stage.Build) error {
			b.Step("downloading modules")
			tools, err := b.Run(ctx, stage.Command{Dir: p.dir, Env: nested, Args: slices.Concat([]string{"go", "list", "-f", "{{.ImportPath}}"}, p.args(), []string{"tool"})})
			if err != nil {
				return err
			}
			packages := map[string][]string{}
			for pkg := range strings.FieldsSeq(string(tools)) {
				dir := "bin"
				if strings.Contains(pkg, "/containernetworking/plugins/") {
					dir = "cni"
				}
				packages[dir] = append(packages[dir], pkg)
			}
			for dir, pkgs := range packages {
				if err := os.Mkdir(filepath.Join(b.Dir, dir), 0o755); err != nil {
					return err
				}
				b.Step("compiling %d programs for %s/", len(pkgs), dir)
				args := append([]string{"-tags", containerdTags, "-ldflags", "-s -w", "-o", filepath.Join(b.Dir, dir) + "/"}, pkgs...)
				if err := p.build(ctx, b, args...); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

// nested is the environment for the modules that are outside the workspace.
var nested = []string{"GOWORK=off", "CGO_ENABLED=0", "GOFLAGS=-mod=readonly"}

// goInputs are the stage inputs of a program built from the nested module src.
func goInputs(ctx context.Context, src string, files ...string) ([]string, error) {
	sum, err := hashFiles(src, files...)
	if err != nil {
		return nil, err
	}
	version, err := goVersion(ctx, src)
	return []string{"2", sum, version}, err
}

// goRoom is less than the largest of these builds writes into Go's caches, whose disk need
// not be that of the results: most of it may be there already.
const goRoom = 1e9

// goBuild compiles a program at a low priority, so that the machine can be used meanwhile.
// Programs are linked without debug information, so the compiler does not make it either:
// Kubernetes takes a fifth less time.
func goBuild(ctx context.Context, b *stage.Build, src string, args ...string) error {
	caches, err := b.Run(ctx, stage.Command{Dir: src, Env: nested, Args: []string{"go", "env", "GOCACHE", "GOMODCACHE"}})
	if err != nil {
		return err
	}
	for dir := range strings.FieldsFuncSeq(string(caches), func(r rune) bool { return r == '\n' }) {
		if err := stage.Room(dir, goRoom); err != nil {
			return err
		}
	}
	args = append([]string{"nice", "-n", "10", "go", "build", "-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false"}, args...)
	_, err = b.Run(ctx, stage.Command{Dir: src, Env: nested, Args: args})
	return err
}
