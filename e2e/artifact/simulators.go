package artifact

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/debian"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

// simulatorSources are the parts of the kernel source that the modules Debian
// does not build are made of.
var simulatorSources = []string{"drivers/net/netdevsim", "drivers/vdpa/vdpa_sim", "drivers/vhost/vringh.c"}

// simulatorKbuild builds the vDPA simulator together with the ring library that
// only it needs.
const simulatorKbuild = "obj-m += vringh.o vdpa_sim.o vdpa_sim_net.o\n"

// buildSimulators compiles netdevsim, vringh, vdpa_sim and vdpa_sim_net for k and
// returns the directory with the modules.
func buildSimulators(ctx context.Context, cache *stage.Cache, archive *debian.Archive, k kernel) (string, error) {
	return cache.Get(ctx, stage.Stage{
		Name:   "modules",
		Inputs: append([]string{"1", k.Release, k.Version, simulatorKbuild}, simulatorSources...),
		Build: func(ctx context.Context, b *stage.Build) error {
			work := filepath.Join(b.Dir, "work")
			// 6.12.94+deb13-amd64: series 6.12, ABI 6.12.94+deb13.
			abi := strings.TrimSuffix(k.Release, "-amd64")
			numbers := strings.SplitN(k.Release, ".", 3)
			if len(numbers) < 3 {
				return fmt.Errorf("kernel release %q, want three numbers", k.Release)
			}
			source := "linux-source-" + numbers[0] + "." + numbers[1]
			var packages []string
			for _, p := range []string{"linux-headers-" + k.Release, "linux-headers-" + abi + "-common", "linux-kbuild-" + abi, source} {
				packages = append(packages, p+"="+k.Version)
			}
			if err := archive.Unpack(ctx, b, work, packages...); err != nil {
				return err
			}
			headers := filepath.Join(work, "usr/src/linux-headers-"+k.Release)
			if err := relocateHeaders(headers, work); err != nil {
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
			vdpa := filepath.Join(work, "drivers/vdpa/vdpa_sim")
			if err := os.Rename(filepath.Join(work, "drivers/vhost/vringh.c"), filepath.Join(vdpa, "vringh.c")); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(vdpa, "Makefile"), []byte(simulatorKbuild), 0o644); err != nil {
				return err
			}
			b.Step("compiling netdevsim, vdpa_sim")
			for _, dir := range []string{filepath.Join(work, "drivers/net/netdevsim"), vdpa} {
				if err := compileModules(ctx, b, headers, dir); err != nil {
					return err
				}
			}
			return os.RemoveAll(work)
		},
	})
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
// modules to the build's directory.
func compileModules(ctx context.Context, b *stage.Build, headers, dir string) error {
	_, err := b.Run(ctx, stage.Command{Args: []string{
		"make", "-C", headers, "M=" + dir, "ARCH=x86_64", "CONFIG_NETDEVSIM=m",
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
	for _, m := range modules {
		if err := os.Rename(m, filepath.Join(b.Dir, filepath.Base(m))); err != nil {
			return err
		}
	}
	return nil
}
