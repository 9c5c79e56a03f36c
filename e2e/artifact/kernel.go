// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/debian"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

// kernelMetapackages name the current kernel: first the 6.12 series, which
// Debian 12 has beside its own 6.1, then the release's own.
var kernelMetapackages = []string{"linux-image-6.12-amd64", "linux-image-amd64"}

// kernel is Debian's kernel, unpacked.
type kernel struct {
	Release string // as uname -r says it: 6.12.94+deb13-amd64
	Version string // of the Debian package
	Image   string // path of vmlinuz
	Tree    string // holds lib/modules/Release, as modprobe -d wants it
}

func buildKernel(ctx context.Context, cache *stage.Cache, archive *debian.Archive) (kernel, error) {
	name, err := archive.Current(ctx, kernelMetapackages...)
	if err != nil {
		return kernel{}, err
	}
	version, err := archive.Version(ctx, name)
	if err != nil {
		return kernel{}, err
	}
	k := kernel{Release: strings.TrimPrefix(name, "linux-image-"), Version: version}
	dir, err := cache.Get(ctx, stage.Stage{
		Name:   "kernel",
		Inputs: []string{"1", name, version},
		Build: func(ctx context.Context, b *stage.Build) error {
			root := filepath.Join(b.Dir, "root")
			if err := archive.Unpack(ctx, b, root, name+"="+version); err != nil {
				return err
			}
			if err := os.Rename(filepath.Join(root, "boot", "vmlinuz-"+k.Release), filepath.Join(b.Dir, "vmlinuz")); err != nil {
				return err
			}
			if err := os.Mkdir(filepath.Join(b.Dir, "lib"), 0o755); err != nil {
				return err
			}
			modules := filepath.Join(b.Dir, "lib", "modules")
			err := os.Rename(filepath.Join(root, "lib", "modules"), modules)
			if errors.Is(err, fs.ErrNotExist) { // since Debian 13
				err = os.Rename(filepath.Join(root, "usr", "lib", "modules"), modules)
			}
			if err != nil {
				return err
			}
			if err := os.RemoveAll(root); err != nil {
				return err
			}
			b.Step("indexing modules")
			_, err = b.Run(ctx, stage.Command{Args: []string{"depmod", "-b", b.Dir, k.Release}})
			return err
		},
	})
	k.Image, k.Tree = filepath.Join(dir, "vmlinuz"), dir
	return k, err
}

// modulePaths returns the files of the named modules and of everything they
// depend on, in loading order, without repetition. Built-in ones have no file.
func modulePaths(ctx context.Context, b *stage.Build, tree, release string, names ...string) ([]string, error) {
	var paths []string
	seen := map[string]bool{}
	for _, name := range names {
		out, err := b.Run(ctx, stage.Command{Args: []string{"modprobe", "-d", tree, "-S", release, "--show-depends", name}})
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
