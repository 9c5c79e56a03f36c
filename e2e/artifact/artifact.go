// SPDX-License-Identifier: Apache-2.0

// Package artifact builds what an emulated node and a control plane are made of,
// from Debian packages and public Go modules, each once (see package stage):
//
//	kernel      Debian's kernel image and its modules
//	modules     netdevsim, vdpa_sim and friends, which Debian leaves out, from its kernel source
//	quirks      sriov_quirks, a module of our own that makes igb NICs answer as others do
//	rootfs      a minimal Debian as a tar archive
//	node        the node's root disk: rootfs, the wanted modules and nothing to configure
//	initramfs   the agent (e2e/cmd/agent) and the modules it needs to find the disk
//	kubernetes  etcd, the control plane, kubelet and kubectl in one executable
//	containerd  containerd, its shim, ctr and the CNI reference plugins
//	cluster     a disk with the last two for nodes of a cluster
package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/stage"
)

// hostPackages is what building and booting a node needs on this machine, other
// than QEMU. With a compiler but without the C library's headers, Go would fail to build
// programs that it builds without either.
var hostPackages = []string{
	"busybox-static", "cpio", "e2fsprogs", "gcc", "iproute2", "kmod", "libc6-dev", "make", "mmdebstrap", "xz-utils",
}

// moduleDir is the directory of this Go module, which the nested modules and the
// agent are built from.
func moduleDir(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/sriovkit/sriovkit/e2e")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("find the e2e module: %w; run inside a checkout of sriovkit", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// hashFiles is a stage input that changes with the content of the named files.
func hashFiles(dir string, names ...string) (string, error) {
	h := sha256.New()
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n", name, len(content))
		h.Write(content)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// goVersion is an input of everything the Go toolchain builds.
func goVersion(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOVERSION")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go env GOVERSION: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// diskImage makes an ext4 image of size bytes (sparse) with the content of dir.
func diskImage(ctx context.Context, b *stage.Build, image, dir, size string) error {
	b.Step("writing the disk image")
	if _, err := b.Run(ctx, stage.Command{Args: []string{"truncate", "-s", size, image}}); err != nil {
		return err
	}
	_, err := b.Run(ctx, stage.Command{Args: []string{
		"mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=1,root_owner=0:0", "-d", dir, image,
	}})
	return err
}
