// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sriovkit/sriovkit/e2e/debian"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

// Program is a command and its first arguments.
type Program []string

// InstalledQEMU is the QEMU that BuildNode makes sure of.
var InstalledQEMU = Program{"qemu-system-x86_64"}

const (
	// qemuSuite is the release whose backports have a QEMU that composes SR-IOV cards of
	// virtio functions, which the installed one does from 10.1 on.
	qemuSuite              = "trixie"
	virtioMajor, virtioMin = 10, 1
)

// BuildQEMU returns a QEMU that has virtio-net cards with SR-IOV: the installed one if it
// is new enough, else one from Debian's backports in a root of its own, of which nothing
// is installed and no maintainer script runs.
func BuildQEMU(ctx context.Context, cache *stage.Cache) (Program, error) {
	if debian.QEMUVersion(ctx).AtLeast(virtioMajor, virtioMin) {
		return InstalledQEMU, nil
	}
	machine, err := debian.Open(ctx, cache)
	if err != nil {
		return nil, err
	}
	if err := machine.Install(ctx, cache, "mmdebstrap"); err != nil {
		return nil, err
	}
	sources := machine.Release(qemuSuite)
	dir, err := cache.Get(ctx, stage.Stage{
		Name:   "qemu",
		Inputs: []string{"1", debian.SourcesList(sources)},
		Build: func(ctx context.Context, b *stage.Build) error {
			b.Step("unpacking the QEMU of %s-backports", qemuSuite)
			var packages []string
			for _, p := range []string{"qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"} {
				packages = append(packages, p+"/"+qemuSuite+"-backports") // apt takes the suite for each package
			}
			root := filepath.Join(b.Dir, "root")
			if err := extractRoot(ctx, b, qemuSuite, sources, root, packages...); err != nil {
				return fmt.Errorf("%w\nthe mirror of this machine has to serve %[2]s and %[2]s-backports, or install QEMU %[3]d.%[4]d or newer",
					err, qemuSuite, virtioMajor, virtioMin)
			}
			for _, name := range []string{"qemu-system-i386", "qemu-system-x86_64-microvm"} { // a third of the size, and not used
				if err := os.Remove(filepath.Join(root, "usr/bin", name)); err != nil {
					return err
				}
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	// It is started by the loader of its own root, with that root's libraries, and not in a
	// chroot: paths, sockets and descriptors are the machine's.
	usr := filepath.Join(dir, "root/usr")
	return Program{
		filepath.Join(usr, "lib64/ld-linux-x86-64.so.2"), "--library-path", filepath.Join(usr, "lib/x86_64-linux-gnu"),
		filepath.Join(usr, "bin/qemu-system-x86_64"), "-L", filepath.Join(usr, "share/qemu"), "-L", filepath.Join(usr, "share/seabios"),
	}, nil
}
