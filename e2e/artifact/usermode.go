// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sriovkit/sriovkit/e2e/debian"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

// userModes are names of QEMU's emulators of processes, by Go's architecture.
var userModes = map[string]string{"arm64": "qemu-aarch64", "ppc64le": "qemu-ppc64le", "s390x": "qemu-s390x"}

// BuildUserMode returns the program that runs static Linux programs of another architecture
// on this machine, from Debian's packages: nothing is installed, and the kernel is told of
// nothing (binfmt_misc), so that only what is started through it is emulated.
func BuildUserMode(ctx context.Context, cache *stage.Cache, arch string) (string, error) {
	name, ok := userModes[arch]
	if !ok {
		return "", fmt.Errorf("architecture %q: want arm64, ppc64le or s390x", arch)
	}
	archive, err := debian.Open(ctx, cache)
	if err != nil {
		return "", err
	}
	dir, err := cache.Get(ctx, stage.Stage{
		Name:   "usermode",
		Inputs: []string{"1", archive.Codename},
		Build: func(ctx context.Context, b *stage.Build) error {
			root := filepath.Join(b.Dir, "root")
			// Up to Debian 12 the second has programs that need their own libraries; from 13
			// on it has the static ones, and the first is empty.
			if err := archive.Unpack(ctx, b, root, "qemu-user-static", "qemu-user"); err != nil {
				return err
			}
			for _, name := range userModes {
				program, err := static(filepath.Join(root, "usr/bin", name+"-static"), filepath.Join(root, "usr/bin", name))
				if err != nil {
					return err
				}
				if err := os.Rename(program, filepath.Join(b.Dir, name)); err != nil {
					return err
				}
			}
			return os.RemoveAll(root)
		},
	})
	return filepath.Join(dir, name), err
}

// static returns the first of the files that is a program without an interpreter.
func static(paths ...string) (string, error) {
	for _, path := range paths {
		// Debian 13 has symbolic links between the two names.
		resolved, err := filepath.EvalSymlinks(path)
		if err != nil {
			continue
		}
		program, err := elf.Open(resolved)
		if err != nil {
			continue
		}
		interpreted := program.Section(".interp") != nil
		if err := program.Close(); err == nil && !interpreted {
			return resolved, nil
		}
	}
	return "", fmt.Errorf("no static program among %v", paths)
}
