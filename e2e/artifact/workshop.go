// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/debian"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

// workshop is where modules for a kernel are compiled: on this machine, or, for a kernel
// of another release of Debian, in a root of that release, whose compiler made the kernel.
type workshop struct {
	kernel kernel
	root   string // with the kernel's headers installed; empty is this machine
}

// workshopPackages are what make and the kernel's scripts need and no package of headers
// depends on.
var workshopPackages = []string{
	"base-files", "bash", "binutils", "coreutils", "dash", "diffutils", "findutils", "grep", "make", "mawk", "perl-base", "sed",
}

// workDir is where the work directory of a build is in the workshop's root.
const workDir = "/build"

func openWorkshop(ctx context.Context, cache *stage.Cache, k kernel) (workshop, error) {
	if !k.foreign {
		return workshop{kernel: k}, nil
	}
	dir, err := cache.Get(ctx, stage.Stage{
		Name:   "workshop",
		Inputs: append([]string{"1", k.Release, k.Version, debian.SourcesList(k.archive.Sources)}, workshopPackages...),
		Build: func(ctx context.Context, b *stage.Build) error {
			b.Step("unpacking the compiler of %s", k.archive.Codename)
			root := filepath.Join(b.Dir, "root")
			packages := append([]string{"linux-headers-" + k.Release}, workshopPackages...)
			if err := extractRoot(ctx, b, k.archive.Codename, k.archive.Sources, root, packages...); err != nil {
				return err
			}
			// What maintainer scripts would have made.
			for link, target := range map[string]string{
				"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64", "usr/bin/awk": "mawk",
			} {
				if err := os.Symlink(target, filepath.Join(root, link)); err != nil && !errors.Is(err, fs.ErrExist) {
					return err
				}
			}
			for _, dir := range []string{workDir, "proc", "tmp"} {
				if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
					return err
				}
			}
			return nil
		},
	})
	return workshop{kernel: k, root: filepath.Join(dir, "root")}, err
}

// prepare makes the work directory of a build, with the files of the packages in it, and
// where modules are compiled on this machine the kernel's headers.
func (w workshop) prepare(ctx context.Context, b *stage.Build, packages ...string) (string, error) {
	work := filepath.Join(b.Dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		return "", err
	}
	k := w.kernel
	if w.root == "" {
		headers := "linux-headers-" + k.Release
		packages = append(packages, headers+"="+k.Version)
		for _, prefix := range []string{"linux-headers-", "linux-kbuild-"} { // 6.12.94+deb13-common; 6.12.94+deb13, or 6.1 alone
			name, err := k.archive.Current(ctx, prefix, headers)
			if err != nil {
				return "", err
			}
			packages = append(packages, name+"="+k.Version)
		}
	}
	if len(packages) > 0 {
		if err := k.archive.Unpack(ctx, b, work, packages...); err != nil {
			return "", err
		}
	}
	if w.root != "" {
		return work, nil
	}
	return work, relocateHeaders(filepath.Join(work, headersDir(k)), work)
}

// headersDir is where a package of headers has what make -C wants.
func headersDir(k kernel) string { return "usr/src/linux-headers-" + k.Release }

// relocateHeaders makes unpacked kernel headers refer to each other below root
// instead of /usr/src.
func relocateHeaders(headers, root string) error {
	path := filepath.Join(headers, "Makefile")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	moved := strings.ReplaceAll(string(text), "/usr/src/", filepath.Join(root, "usr/src")+"/")
	if moved == string(text) {
		return fmt.Errorf("%s does not mention /usr/src: a new layout of linux-headers", path)
	}
	return os.WriteFile(path, []byte(moved), 0o644)
}

// compile runs kbuild for a directory of modules in the work directory and moves the
// modules to a directory below the build's.
func (w workshop) compile(ctx context.Context, b *stage.Build, dir, to string, args ...string) error {
	work := filepath.Join(b.Dir, "work")
	if err := w.make(ctx, b, work, dir, args); err != nil {
		return err
	}
	modules, err := filepath.Glob(filepath.Join(work, dir, "*.ko"))
	if err != nil {
		return err
	}
	if len(modules) == 0 {
		return fmt.Errorf("make in %s built no module", dir)
	}
	to = filepath.Join(b.Dir, to)
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, m := range modules {
		if err := os.Rename(m, filepath.Join(to, filepath.Base(m))); err != nil {
			return err
		}
	}
	return nil
}

// chrootScript runs a command in a root that sees the work directory. Its mounts end
// with the mount namespace.
const chrootScript = `mount --bind "$2" "$1` + workDir + `"; mount -t proc proc "$1/proc"; root=$1; shift 2; exec chroot "$root" "$@"`

func (w workshop) make(ctx context.Context, b *stage.Build, work, dir string, args []string) error {
	seen := work // as make sees it
	headers := filepath.Join(work, headersDir(w.kernel))
	var command []string
	if w.root != "" {
		if os.Geteuid() != 0 {
			return fmt.Errorf("modules for kernel %s are compiled in a root of Debian %s, which needs root", w.kernel.Release, w.kernel.archive.Codename)
		}
		seen, headers = workDir, "/"+headersDir(w.kernel)
		command = []string{"unshare", "--mount", "sh", "-ec", chrootScript, "sh", w.root, work}
	}
	command = append(command, "make", "-C", headers, "M="+filepath.Join(seen, dir), "ARCH=x86_64",
		"CONFIG_DEBUG_INFO_BTF_MODULES=", // would need pahole and the kernel's BTF
		"-j2", "modules")
	_, err := b.Run(ctx, stage.Command{Args: append(command, args...)})
	return err
}

// extractRoot unpacks packages and what they depend on into a root of its own, of which
// nothing is installed and no maintainer script runs.
func extractRoot(ctx context.Context, b *stage.Build, codename string, sources []debian.Source, root string, packages ...string) error {
	return mmdebstrap(ctx, b, codename, sources, root, packages,
		"--mode=root", "--variant=extract", "--format=directory", `--aptopt=APT::Install-Recommends "false"`)
}

// mmdebstrap makes a root of packages at target, without their documentation.
func mmdebstrap(ctx context.Context, b *stage.Build, codename string, sources []debian.Source, target string, packages []string, options ...string) error {
	args := append([]string{
		"mmdebstrap", "--include=" + strings.Join(packages, ","),
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
	}, options...)
	proxies, err := debian.Proxies(ctx)
	if err != nil {
		return err
	}
	for _, p := range proxies {
		args = append(args, "--aptopt="+p)
	}
	_, err = b.Run(ctx, stage.Command{
		Stdin: strings.NewReader(debian.SourcesList(sources)), Args: append(args, codename, target, "-"),
	})
	return err
}
