// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/stage"
)

// simulatorSources are the parts of the kernel source that the modules Debian
// does not build are made of.
var simulatorSources = []string{
	"drivers/net/netdevsim", "drivers/vdpa", "drivers/vhost", "drivers/virtio/virtio_vdpa.c", "drivers/vfio",
}

// vdpaSources are what vDPA devices need beside the vDPA core: the simulator, a ring
// library that only it needs, and the driver of virtio functions.
var vdpaSources = map[string]string{
	"vringh.c":       "drivers/vhost/vringh.c",
	"vdpa_sim.h":     "drivers/vdpa/vdpa_sim/vdpa_sim.h",
	"vdpa_sim.c":     "drivers/vdpa/vdpa_sim/vdpa_sim.c",
	"vdpa_sim_net.c": "drivers/vdpa/vdpa_sim/vdpa_sim_net.c",
	"vp_vdpa.c":      "drivers/vdpa/virtio_pci/vp_vdpa.c",
}

// vdpaCoreSources are the core and its two users, which Debian's 6.1 lacks.
var vdpaCoreSources = map[string]string{
	"vdpa.c":        "drivers/vdpa/vdpa.c",
	"vhost.h":       "drivers/vhost/vhost.h",
	"vhost_vdpa.c":  "drivers/vhost/vdpa.c",
	"virtio_vdpa.c": "drivers/virtio/virtio_vdpa.c",
}

// noIOMMU builds the vfio module with the mode that Debian leaves out. The others
// (vfio_pci, vfio_iommu_type1) fit it and are not built.
var noIOMMU = []string{
	"KCFLAGS=-DCONFIG_VFIO_NOIOMMU=1",
	"CONFIG_VFIO_IOMMU_TYPE1=", "CONFIG_VFIO_PCI=", "CONFIG_VFIO_PCI_CORE=", "CONFIG_VFIO_MDEV=",
}

// NoIOMMUModule is where the node has the vfio module with no-IOMMU mode, beside
// Debian's, which is the one that modprobe takes.
const NoIOMMUModule = "usr/lib/sriovkit/vfio.ko"

// buildSimulators compiles netdevsim, vringh, vdpa_sim, vdpa_sim_net, vp_vdpa, the vDPA
// core where k has none, and vfio with no-IOMMU mode, for k. It returns the directory with
// extra/, the modules that Debian lacks, and vfio.ko.
func buildSimulators(ctx context.Context, cache *stage.Cache, k kernel) (string, error) {
	core, err := filepath.Glob(filepath.Join(k.Tree, "lib/modules", k.Release, "kernel/drivers/vdpa/vdpa.ko*"))
	if err != nil {
		return "", err
	}
	vdpa := maps.Clone(vdpaSources)
	if len(core) == 0 {
		maps.Copy(vdpa, vdpaCoreSources)
	}
	shop, err := openWorkshop(ctx, cache, k)
	if err != nil {
		return "", err
	}
	return cache.Get(ctx, stage.Stage{
		Name:   "modules",
		Inputs: slices.Concat([]string{"4", k.Release, k.Version, shop.root}, noIOMMU, simulatorSources, slices.Sorted(maps.Values(vdpa))),
		Build: func(ctx context.Context, b *stage.Build) error {
			// 6.12.94+deb13-amd64 is of the series 6.12.
			numbers := strings.SplitN(k.Release, ".", 3)
			if len(numbers) < 3 {
				return fmt.Errorf("kernel release %q, want three numbers", k.Release)
			}
			source := "linux-source-" + numbers[0] + "." + numbers[1]
			work, err := shop.prepare(ctx, b, source+"="+k.Version)
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
			if err := gather(work, "vdpa", vdpa); err != nil {
				return err
			}
			if err := allowVFs(filepath.Join(work, "drivers/net/netdevsim")); err != nil {
				return err
			}
			b.Step("compiling netdevsim, vdpa_sim, vp_vdpa, vfio")
			for _, d := range []struct {
				from, to string
				args     []string
			}{
				{"drivers/net/netdevsim", "extra", []string{"CONFIG_NETDEVSIM=m"}},
				{"vdpa", "extra", nil},
				{"drivers/vfio", ".", noIOMMU},
			} {
				if err := shop.compile(ctx, b, d.from, d.to, d.args...); err != nil {
					return err
				}
			}
			return os.RemoveAll(work)
		},
	})
}

// netdevsimVFs is netdevsim's constant for how many VFs a device may have, 4. Kernels up to
// 6.12 can be told another number while they run, later ones cannot.
var netdevsimVFs = regexp.MustCompile(`(#define NSIM_BUS_DEV_MAX_VFS\s+)\d+`)

// allowVFs has netdevsim make as many VFs as a PF of PCI can have.
func allowVFs(dir string) error {
	found := false
	for _, name := range []string{"bus.c", "netdevsim.h"} { // one of them has it
		path := filepath.Join(dir, name)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !netdevsimVFs.Match(text) {
			continue
		}
		found = true
		if err := os.WriteFile(path, netdevsimVFs.ReplaceAll(text, []byte("${1}256")), 0o644); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("netdevsim in %s does not say how many VFs it allows: a new layout", dir)
	}
	return nil
}

// gather makes a directory in work of files of the kernel source, each C file a module.
func gather(work, dir string, files map[string]string) error {
	if err := os.Mkdir(filepath.Join(work, dir), 0o755); err != nil {
		return err
	}
	kbuild := "obj-m :="
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := os.Rename(filepath.Join(work, files[name]), filepath.Join(work, dir, name)); err != nil {
			return err
		}
		if module, ok := strings.CutSuffix(name, ".c"); ok {
			kbuild += " " + module + ".o"
		}
	}
	return os.WriteFile(filepath.Join(work, dir, "Makefile"), []byte(kbuild+"\n"), 0o644)
}

//go:embed quirks/sriov_quirks.c
var quirksSource string

// buildQuirks compiles sriov_quirks, which makes igb NICs answer as others do, and
// returns the directory with the module.
func buildQuirks(ctx context.Context, cache *stage.Cache, k kernel) (string, error) {
	shop, err := openWorkshop(ctx, cache, k)
	if err != nil {
		return "", err
	}
	return cache.Get(ctx, stage.Stage{
		Name:   "quirks",
		Inputs: []string{"1", k.Release, k.Version, quirksSource},
		Build: func(ctx context.Context, b *stage.Build) error {
			work, err := shop.prepare(ctx, b)
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
			if err := shop.compile(ctx, b, "quirks", "."); err != nil {
				return err
			}
			return os.RemoveAll(work)
		},
	})
}
