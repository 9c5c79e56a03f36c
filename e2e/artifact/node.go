// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/sriovkit/sriovkit/e2e/debian"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

// nodePackages is what an emulated node has beyond Debian's essential packages.
// rdma, devlink and vdpa come with iproute2.
var nodePackages = []string{
	"busybox-static", "conntrack", "ethtool", "iproute2", "iptables", "iputils-ping", "kmod", "mount", "nftables",
	"pciutils", "procps", "runc", "strace", "tcpdump",
}

// nodeModules can be loaded on a node, with what they depend on; Debian's kernel
// has nearly everything as a module.
var nodeModules = strings.Fields(`
	virtio_net virtio_blk virtio_console igb igbvf overlay bridge br_netfilter veth 8021q macvlan ipvlan dummy tun bonding
	nf_tables nft_compat nft_chain_nat nft_masq nft_ct nft_reject_ipv4 nft_reject_ipv6 nf_conntrack nf_conntrack_netlink
	ip_tables iptable_nat iptable_filter ip6_tables ip6table_nat ip6table_filter
	xt_comment xt_MASQUERADE xt_conntrack xt_addrtype xt_mark xt_nat xt_tcpudp xt_multiport
	vfio vfio_pci vfio_iommu_type1 pci_pf_stub uio_pci_generic vdpa vduse vhost_vdpa virtio_vdpa vhost_net vhost_iotlb
	rdma_rxe ib_uverbs rdma_ucm crc32_generic psample
	netdevsim vringh vdpa_sim vdpa_sim_net vp_vdpa sriov_quirks`)

// Node is what boots an emulated node.
type Node struct {
	Release   string // of the kernel, as uname -r says it
	Kernel    string // vmlinuz
	Initramfs string
	Disk      string // ext4 image; boot it with a throw-away overlay
}

// BuildNode builds or finds everything an emulated node boots from, and installs
// the packages for it on this machine. The kernel is one of Kernels; empty is the default.
func BuildNode(ctx context.Context, cache *stage.Cache, kernelName string) (Node, error) {
	archive, err := debian.Open(ctx, cache)
	if err != nil {
		return Node{}, err
	}
	if err := archive.Install(ctx, cache, hostPackages...); err != nil {
		return Node{}, err
	}
	if err := archive.InstallQEMU(ctx, cache); err != nil {
		return Node{}, err
	}
	rootfs, err := buildRootfs(ctx, cache, archive) // first, as not everybody can
	if err != nil {
		return Node{}, err
	}
	k, err := buildKernel(ctx, cache, archive, kernelName)
	if err != nil {
		return Node{}, err
	}
	simulators, err := buildSimulators(ctx, cache, k)
	if err != nil {
		return Node{}, err
	}
	quirks, err := buildQuirks(ctx, cache, k)
	if err != nil {
		return Node{}, err
	}
	disk, err := buildNodeDisk(ctx, cache, k, simulators, quirks, rootfs)
	if err != nil {
		return Node{}, err
	}
	initramfs, err := buildInitramfs(ctx, cache, k)
	return Node{Release: k.Release, Kernel: k.Image, Initramfs: initramfs, Disk: disk}, err
}

// buildRootfs returns the directory with root.tar. Security updates of packages
// are picked up when the cache is removed, not on each run.
func buildRootfs(ctx context.Context, cache *stage.Cache, archive *debian.Archive) (string, error) {
	return cache.Get(ctx, stage.Stage{
		Name:   "rootfs",
		Inputs: append([]string{"1", archive.Codename}, nodePackages...),
		Build: func(ctx context.Context, b *stage.Build) error {
			if os.Geteuid() != 0 {
				return errors.New("not root: files of a node belong to root; run this command with sudo once, or set SRIOVKIT_CACHE to where that was done")
			}
			b.Step("installing %d packages into a new root", len(nodePackages))
			return mmdebstrap(ctx, b, archive.Codename, archive.Sources, filepath.Join(b.Dir, "root.tar"), nodePackages,
				"--variant=essential", "--dpkgopt=path-exclude=/usr/share/locale/*")
		},
	})
}

// buildNodeDisk returns the path of the root disk.
func buildNodeDisk(ctx context.Context, cache *stage.Cache, k kernel, simulators, quirks, rootfs string) (string, error) {
	dir, err := cache.Get(ctx, stage.Stage{
		Name:   "node",
		Inputs: append([]string{"2", k.Tree, simulators, quirks, rootfs}, nodeModules...),
		Build: func(ctx context.Context, b *stage.Build) error {
			root := filepath.Join(b.Dir, "root")
			if err := os.Mkdir(root, 0o755); err != nil {
				return err
			}
			b.Step("unpacking the root file system")
			if _, err := b.Run(ctx, stage.Command{Args: []string{"tar", "-xf", filepath.Join(rootfs, "root.tar"), "-C", root}}); err != nil {
				return err
			}
			if err := installModules(ctx, b, k, simulators, quirks, root); err != nil {
				return err
			}
			if err := diskImage(ctx, b, filepath.Join(b.Dir, "root.img"), root, "4G"); err != nil {
				return err
			}
			return os.RemoveAll(root)
		},
	})
	return filepath.Join(dir, "root.img"), err
}

// installModules puts nodeModules and their dependencies into root.
func installModules(ctx context.Context, b *stage.Build, k kernel, simulators, quirks, root string) error {
	b.Step("copying kernel modules")
	tree := filepath.Join(b.Dir, "tree") // the kernel's modules and those that are built here
	modules := filepath.Join("lib/modules", k.Release)
	if err := os.MkdirAll(filepath.Join(tree, "lib/modules"), 0o755); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"cp", "-a", "--reflink=auto", filepath.Join(k.Tree, modules), filepath.Join(tree, modules)},
		{"cp", "-aT", filepath.Join(simulators, "extra"), filepath.Join(tree, modules, "extra")},
		{"cp", "-a", filepath.Join(quirks, "sriov_quirks.ko"), filepath.Join(tree, modules, "extra")},
		{"install", "-D", "-m", "644", filepath.Join(simulators, "vfio.ko"), filepath.Join(root, NoIOMMUModule)},
		{"depmod", "-b", tree, k.Release},
	} {
		if _, err := b.Run(ctx, stage.Command{Args: args}); err != nil {
			return err
		}
	}
	paths, err := modulePaths(ctx, b, tree, k.Release, nodeModules...)
	if err != nil {
		return err
	}
	err = copyModules(ctx, b, paths, func(_ int, path string) string {
		return filepath.Join(root, strings.TrimPrefix(path, tree))
	})
	if err != nil {
		return err
	}
	for _, list := range []string{"modules.builtin", "modules.builtin.modinfo", "modules.order"} {
		if _, err := b.Run(ctx, stage.Command{Args: []string{"cp", filepath.Join(tree, modules, list), filepath.Join(root, modules)}}); err != nil {
			return err
		}
	}
	if _, err := b.Run(ctx, stage.Command{Args: []string{"depmod", "-b", root, k.Release}}); err != nil {
		return err
	}
	return os.RemoveAll(tree)
}
