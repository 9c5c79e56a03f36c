// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"os"
	"path/filepath"

	"github.com/sriovkit/sriovkit/e2e/debian"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

// Managers are the packages of what else sees to network interfaces on people's nodes:
// udevd, and NetworkManager with what it talks through.
var Managers = []string{"udev", "network-manager", "dbus"}

// BuildPackages returns the path of a disk image with the files of further Debian
// packages, and of all that they depend on, of the release that nodes are made of. No
// maintainer script has run.
func BuildPackages(ctx context.Context, cache *stage.Cache, packages ...string) (string, error) {
	archive, err := debian.Open(ctx, cache)
	if err != nil {
		return "", err
	}
	if err := archive.Install(ctx, cache, hostPackages...); err != nil {
		return "", err
	}
	dir, err := cache.Get(ctx, stage.Stage{
		Name:   "packages",
		Inputs: append([]string{"1", archive.Codename}, packages...),
		Build: func(ctx context.Context, b *stage.Build) error {
			b.Step("unpacking %d packages and what they need", len(packages))
			root := filepath.Join(b.Dir, "root")
			if err := extractRoot(ctx, b, archive.Codename, archive.Sources, root, packages...); err != nil {
				return err
			}
			if err := diskImage(ctx, b, filepath.Join(b.Dir, "packages.img"), root, "1G"); err != nil {
				return err
			}
			return os.RemoveAll(root)
		},
	})
	return filepath.Join(dir, "packages.img"), err
}
