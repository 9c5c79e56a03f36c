// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/debian"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

// simulatorSources are the parts of the kernel source that the modules Debian
// does not build are made of.
var simulatorSources = []string{
	"drivers/net/netdevsim", "drivers/vdpa/vdpa_sim", "drivers/vdpa/virtio_pci", "drivers/vhost/vringh.c", "drivers/vfio",
}

const (
	// simulatorKbuild builds the vDPA simulator together with the ring library that
	// only it needs.
	simulatorKbuild = "obj-m += vringh.o vdpa_sim.o vdpa_sim_net.o\n"
	// noIOMMUKbuild builds the vfio module alone with the mode that Debian leaves out.
	// The others (vfio_pci, vfio_iommu_type1) fit it.
	noIOMMUKbuild = "obj-m := vfio.o\nvfio-y := vfio_main.o group.o container.o virqfd.o\nccflags-y := -DCONFIG_VFIO_NOIOMMU=1\n"
)

// NoIOMMUModule is where the node has the vfio module with no-IOMMU mode, beside
// Debian's, which is the one that modprobe takes.
const NoIOMMUModule = "usr/lib/sriovkit/vfio.ko"

// buildSimulators compiles netdevsim, vringh, vdpa_sim, vdpa_sim_net and vp_vdpa, and
// vfio with no-IOMMU mode, for k. It returns the directory with extra/, the modules that
// Debian lacks, and vfio.ko.
func buildSimulators(ctx context.Context, cache *stage.Cache, archive *debian.Archive, k kernel) (string, error) {
	return cache.Get(ctx, stage.Stage{
		Name:   "modules",
		Inputs: append([]string{"2", k.Release, k.Version, simulatorKbuild, noIOMMUKbuild}, simulatorSources...),
		Build: func(ctx context.Context, b *stage.Build) error {
			work := filepath.Join(b.Dir, "work")
			// 6.12.94+deb13-amd64 is of the series 6.12.
			numbers := strings.SplitN(k.Release, ".", 3)
			if len(numbers) < 3 {
				return fmt.Errorf("kernel release %q, want three numbers", k.Release)
			}
			source := "linux-source-" + numbers[0] + "." + numbers[1]
			headers, err := unpackHeaders(ctx, b, archive, k, work, source+"="+k.Version)
			if err != nil {
				return err
			}
			b.Step("unpacking the kernel source")
			extract := []string{"tar", "-xf", filepath.Join(work, "usr/src", source+".tar.xz"), "-C", work, "--strip-components=1"}
			for _, s := range simulatorSources {
				extract = append(extract, source+"/"+s)
			}
			if _, err := b.Run(ctx, stage.Command{Args: extract}); err != nil {
				return err
			}
			vdpa, vfio := filepath.Join(work, "drivers/vdpa/vdpa_sim"), filepath.Join(work, "drivers/vfio")
			if err := os.Rename(filepath.Join(work, "drivers/vhost/vringh.c"), filepath.Join(vdpa, "vringh.c")); err != nil {
				return err
			}
			for dir, kbuild := range map[string]string{vdpa: simulatorKbuild, vfio: noIOMMUKbuild} {
				if err := os.WriteFile(filepath.Join(dir, "Makefile"), []byte(kbuild), 0o644); err != nil {
					return err
				}
			}
			b.Step("compiling netdevsim, vdpa_sim, vp_vdpa, vfio")
			for _, d := range []struct{ from, to string }{
				{filepath.Join(work, "drivers/net/netdevsim"), "extra"},
				{vdpa, "extra"},
				{filepath.Join(work, "drivers/vdpa/virtio_pci"), "extra"},
				{vfio, "."},
			} {
				if err := compileModules(ctx, b, headers, d.from, d.to); err != nil {
					return err
				}
			}
			return os.RemoveAll(work)
		},
	})
}

//go:embed quirks/sriov_quirks.c
var quirksSource string

// buildQuirks compiles sriov_quirks, which makes igb NICs answer as others do, and
// returns the directory with the module.
func buildQuirks(ctx context.Context, cache *stage.Cache, archive *debian.Archive, k kernel) (string, error) {
	return cache.Get(ctx, stage.Stage{
		Name:   "quirks",
		Inputs: []string{"1", k.Release, k.Version, quirksSource},
		Build: func(ctx context.Context, b *stage.Build) error {
			work := filepath.Join(b.Dir, "work")
			headers, err := unpackHeaders(ctx, b, archive, k, work)
			if err != nil {
				return err
			}
			dir := filepath.Join(work, "quirks")
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
			for name, text := range map[string]string{"sriov_quirks.c": quirksSource, "Makefile": "obj-m := sriov_quirks.o\n"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					return err
				}
			}
			b.Step("compiling sriov_quirks")
			if err := compileModules(ctx, b, headers, dir, "."); err != nil {
				return err
			}
			return os.RemoveAll(work)
		},
	})
}

// unpackHeaders unpacks what modules for k are compiled with, and further packages, into
// work and returns the directory to run make in.
func unpackHeaders(ctx context.Context, b *stage.Build, archive *debian.Archive, k kernel, work string, further ...string) (string, error) {
	abi := strings.TrimSuffix(k.Release, "-amd64") // 6.12.94+deb13
	packages := further
	for _, p := range []string{"linux-headers-" + k.Release, "linux-headers-" + abi + "-common", "linux-kbuild-" + abi} {
		packages = append(packages, p+"="+k.Version)
	}
	if err := archive.Unpack(ctx, b, work, packages...); err != nil {
		return "", err
	}
	headers := filepath.Join(work, "usr/src/linux-headers-"+k.Release)
	return headers, relocateHeaders(headers, work)
}

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

// compileModules runs kbuild for an out-of-tree module directory and moves the
// modules to a directory below the build's.
func compileModules(ctx context.Context, b *stage.Build, headers, dir, to string) error {
	_, err := b.Run(ctx, stage.Command{Args: []string{
		"make", "-C", headers, "M=" + dir, "ARCH=x86_64", "CONFIG_NETDEVSIM=m", "CONFIG_VP_VDPA=m",
		"CONFIG_DEBUG_INFO_BTF_MODULES=", // would need pahole and the kernel's BTF
		"-j2", "modules",
	}})
	if err != nil {
		return err
	}
	modules, err := filepath.Glob(filepath.Join(dir, "*.ko"))
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
