// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/stage"
)

// bootModules are what the agent needs to reach its disk and its serial port.
var bootModules = []string{"virtio_pci", "virtio_blk", "ext4", "crc32c_generic", "virtio_console"}

// buildInitramfs returns the path of the initramfs. The agent is built on every
// call, which the Go build cache makes cheap, and its content is the key.
func buildInitramfs(ctx context.Context, cache *stage.Cache, k kernel) (string, error) {
	src, err := moduleDir(ctx)
	if err != nil {
		return "", err
	}
	bin, err := os.MkdirTemp("", "sriovkit-agent-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(bin)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", bin, "./cmd/agent")
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the agent: %w\n%s", err, out)
	}
	sum, err := hashFiles(bin, "agent")
	if err != nil {
		return "", err
	}
	dir, err := cache.Get(ctx, stage.Stage{
		Name:   "initramfs",
		Inputs: append([]string{"1", k.Tree, sum}, bootModules...),
		Build: func(ctx context.Context, b *stage.Build) error {
			root := filepath.Join(b.Dir, "root")
			for _, dir := range []string{"dev", "proc", "sys", "root", "modules"} {
				if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
					return err
				}
			}
			paths, err := modulePaths(ctx, b, k.Tree, k.Release, bootModules...)
			if err != nil {
				return err
			}
			err = copyModules(ctx, b, paths, func(i int, path string) string {
				return filepath.Join(root, "modules", fmt.Sprintf("%02d-%s", i, filepath.Base(path)))
			})
			if err != nil {
				return err
			}
			if _, err := b.Run(ctx, stage.Command{Args: []string{"cp", filepath.Join(bin, "agent"), filepath.Join(root, "init")}}); err != nil {
				return err
			}
			// Uncompressed: unpacking is slow in an emulated machine, reading is not.
			files, err := b.Run(ctx, stage.Command{Dir: root, Args: []string{"find", "."}})
			if err != nil {
				return err
			}
			_, err = b.Run(ctx, stage.Command{
				Dir:   root,
				Stdin: strings.NewReader(string(files)),
				Args:  []string{"cpio", "--quiet", "-o", "-H", "newc", "-F", filepath.Join(b.Dir, "initramfs.cpio")},
			})
			if err != nil {
				return err
			}
			return os.RemoveAll(root)
		},
	})
	return filepath.Join(dir, "initramfs.cpio"), err
}
