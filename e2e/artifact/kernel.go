// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/debian"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

// series is a kernel that nodes can boot.
type series struct {
	name      string // as people ask for it; a prefix of its release
	codename  string // of the Debian release that has it; empty is the machine's own
	backports bool   // of that release
	// metapackages name the current version; the first that the archive knows counts.
	metapackages []string
}

// defaultKernel is the 6.12 series, which Debian 12 has beside its own 6.1, or else the
// release's own.
var defaultKernel = series{metapackages: []string{"linux-image-6.12-amd64", "linux-image-amd64"}}

var kernels = []series{
	{"6.1", "bookworm", false, []string{"linux-image-amd64"}},
	{"6.12", "", false, defaultKernel.metapackages},
	{"7", "trixie", true, []string{"linux-image-amd64"}},
}

// Kernels are the kernels that nodes can boot, oldest first: beginnings of what uname -r says.
func Kernels() []string {
	var names []string
	for _, s := range kernels {
		names = append(names, s.name)
	}
	return names
}

// KernelVariable names the kernel of nodes that name none.
const KernelVariable = "SRIOVKIT_KERNEL"

// CheckKernel reports whether name is one of Kernels, or empty for the default.
func CheckKernel(name string) error {
	_, err := kernelNamed(name)
	return err
}

func kernelNamed(name string) (series, error) {
	what := "kernel"
	if name == "" {
		name, what = os.Getenv(KernelVariable), KernelVariable
	}
	if name == "" {
		return defaultKernel, nil
	}
	for _, s := range kernels {
		if s.name == name {
			return s, nil
		}
	}
	return series{}, fmt.Errorf("%s is %q, want one of %s", what, name, strings.Join(Kernels(), ", "))
}

// kernel is Debian's kernel, unpacked.
type kernel struct {
	Release string // as uname -r says it: 6.12.94+deb13-amd64
	Version string // of the Debian package
	Image   string // path of vmlinuz
	Tree    string // holds lib/modules/Release, as modprobe -d wants it

	archive *debian.Archive // that has it
	foreign bool            // of another release of Debian than the machine's
}

// buildKernel unpacks the named kernel; machine is the archive of this machine's release.
func buildKernel(ctx context.Context, cache *stage.Cache, machine *debian.Archive, name string) (kernel, error) {
	s, err := kernelNamed(name)
	if err != nil {
		return kernel{}, err
	}
	archive := machine
	if s.codename != "" {
		if archive, err = machine.Other(ctx, cache, s.codename, s.backports); err != nil {
			return kernel{}, fmt.Errorf("kernel %s: %w", s.name, err)
		}
	}
	const image = "linux-image-"
	current, err := archive.Current(ctx, image, s.metapackages...)
	if err != nil {
		return kernel{}, err
	}
	release := strings.TrimPrefix(current, image)
	if s.name != "" && !strings.HasPrefix(release, s.name+".") {
		return kernel{}, fmt.Errorf("kernel is %q, and the archive of Debian %s has %s instead; want another of %s",
			s.name, archive.Codename, release, strings.Join(Kernels(), ", "))
	}
	version, err := archive.Version(ctx, current)
	if err != nil {
		return kernel{}, err
	}
	packages := []string{current + "=" + version}
	if _, err := archive.Version(ctx, "linux-binary-"+release); err == nil { // since 7: the image's package is empty
		packages = []string{"linux-binary-" + release + "=" + version, "linux-modules-" + release + "=" + version, "linux-base-" + release + "=" + version}
	}
	k := kernel{Release: release, Version: version, archive: archive, foreign: archive.Codename != machine.Codename}
	dir, err := cache.Get(ctx, stage.Stage{
		Name:   "kernel",
		Inputs: []string{"1", current, version},
		Build:  func(ctx context.Context, b *stage.Build) error { return k.unpack(ctx, b, packages) },
	})
	k.Image, k.Tree = filepath.Join(dir, "vmlinuz"), dir
	return k, err
}

// unpack makes vmlinuz and lib/modules of the build from the kernel's packages.
func (k kernel) unpack(ctx context.Context, b *stage.Build, packages []string) error {
	root := filepath.Join(b.Dir, "root")
	if err := k.archive.Unpack(ctx, b, root, packages...); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(b.Dir, "lib"), 0o755); err != nil {
		return err
	}
	modules := filepath.Join(b.Dir, "lib", "modules")
	// The second of each is of newer packages.
	err := renameFirst(modules, filepath.Join(root, "lib", "modules"), filepath.Join(root, "usr", "lib", "modules"))
	if err != nil {
		return err
	}
	err = renameFirst(filepath.Join(b.Dir, "vmlinuz"),
		filepath.Join(root, "boot", "vmlinuz-"+k.Release), filepath.Join(modules, k.Release, "vmlinuz"))
	if err != nil {
		return err
	}
	if err := os.RemoveAll(root); err != nil {
		return err
	}
	b.Step("indexing modules")
	_, err = b.Run(ctx, stage.Command{Args: []string{"depmod", "-b", b.Dir, k.Release}})
	return err
}

// renameFirst renames the first of the files that exists.
func renameFirst(to string, from ...string) error {
	var err error
	for _, f := range from {
		if err = os.Rename(f, to); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}

// sometimes are modules that not every kernel has: in newer ones the first two are parts of
// others, and Debian's 6.1 has no vDPA.
var sometimes = []string{"crc32c_generic", "crc32_generic", "vduse"}

// modulePaths returns the files of the named modules and of everything they
// depend on, in loading order, without repetition. Built-in ones have no file.
func modulePaths(ctx context.Context, b *stage.Build, tree, release string, names ...string) ([]string, error) {
	var paths []string
	seen := map[string]bool{}
	for _, name := range names {
		out, err := b.Run(ctx, stage.Command{Args: []string{"modprobe", "-d", tree, "-S", release, "--show-depends", name}})
		if err != nil && slices.Contains(sometimes, name) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(out)) {
			f := strings.Fields(line)
			if len(f) >= 2 && f[0] == "insmod" && !seen[f[1]] {
				seen[f[1]] = true
				paths = append(paths, f[1])
			}
		}
	}
	return paths, nil
}

// copyModules copies modules to the files that to names and decompresses them:
// the kernel's own decompression is slow in an emulated machine.
func copyModules(ctx context.Context, b *stage.Build, paths []string, to func(i int, path string) string) error {
	unxz := []string{"xz", "--decompress"}
	for i, from := range paths {
		target := to(i, from)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		module, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(target, module, 0o644); err != nil {
			return err
		}
		if strings.HasSuffix(target, ".xz") {
			unxz = append(unxz, target)
		}
	}
	if len(unxz) == 2 {
		return nil
	}
	_, err := b.Run(ctx, stage.Command{Args: unxz})
	return err
}
