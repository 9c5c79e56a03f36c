// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/sriovkit/sriovkit/e2e/artifact"
)

// Limits of the emulated machine.
const (
	// MaxPFs is eight dual-port cards. Firmware fails with more root ports, it
	// runs out of I/O port windows.
	MaxPFs = 16
	// maxRootPorts is how many cards fit.
	maxRootPorts = 8
	// maxVirtualNICs have fixed places on the main bus, 0000:00:10.0 and on.
	maxVirtualNICs = 8
	virtualSlot    = 0x10
	// maxVirtioVFs is what fits into one card's bus without ARI beyond its second device.
	maxVirtioVFs = 15
	// maxMemory is below where SeaBIOS opens a 64-bit PCI window. QEMU 10.0 maps
	// VF registers in that window at an address cut to 32 bits: VFs are dead.
	maxMemory = 2800
)

// Config describes an emulated node. The zero value is a node with two igb NICs.
type Config struct {
	Name     string // host name; empty is "node1"
	Kernel   string // one of artifact.Kernels; empty is the default, see artifact.KernelVariable
	PFs      int    // emulated Intel 82576 ports, 1 to 16; 0 is 2. Beyond 8 they share dual-port cards
	DualPort bool   // put two PFs on each card, as function 0 and 1, for fewer than 9 as well
	NoIOMMU  bool   // as on machines that have none, or have it off
	// VFIONoIOMMU loads a vfio module with no-IOMMU mode, which Debian's lacks and other
	// distributions' have; the mode is off until enable_unsafe_noiommu_mode is set.
	VFIONoIOMMU bool
	NUMA        bool // two NUMA nodes; odd-numbered cards are attached to node 1
	MemoryMiB   int  // 512 to 2800; 0 is 2048
	// CPUs is how many processors; 0 is 1, and 2 with NUMA or in a cluster. QEMU can lose
	// interrupts between several (see Stuck).
	CPUs int

	// VirtualNICs are virtio-net functions, at 0000:00:10.0, 0000:00:11.0 and on:
	// what virtual machines get in place of NICs, without a PF in sight. They are
	// connected to the PFs.
	VirtualNICs int

	// VirtioPFs are SR-IOV ports of another kind: virtio-net functions, whose PF driver
	// knows no settings of VFs. They come after the igb ports, with which they share the
	// limit of cards. They need a QEMU that Boot gets by itself (see artifact.BuildQEMU).
	VirtioPFs int
	VirtioVFs int // VFs of each, 1 to 15; 0 is 7

	// Modules are loaded before Boot returns, beside igb, igbvf and vfio-pci:
	// netdevsim, vdpa_sim_net and others (see e2e/artifact).
	Modules []string
	// Disks are ext4 images by name; each is mounted read only at /mnt/NAME.
	Disks map[string]string
	// Packages are Debian packages whose files the node has as well, with those of all they
	// depend on; the node's own stay. None of their scripts has run.
	Packages []string
	// Fabric connects the NICs of two nodes to one layer 2; nil keeps them apart.
	Fabric *Fabric
	// Management adds a NIC with a route to the host; nil is a node without any
	// network but its igb ports.
	Management *Management

	// Log receives progress and kernel messages that mean trouble; nil is os.Stderr.
	Log io.Writer
}

// Management is a user-mode network between a node and the machine it runs on.
// QEMU and whatever it talks to live in one network namespace.
type Management struct {
	Netns    *os.File // network namespace of the host side; nil is the caller's
	Address  string   // of the node, in 10.0.2.0/24; the host is 10.0.2.2 and appears as loopback
	Forwards []int    // TCP ports of the node that are reachable at Address in Netns
}

// Check is an error if there is no such node.
func (c Config) Check() error {
	if err := c.complete(); err != nil {
		return fmt.Errorf("node %s: %w", c.Name, err)
	}
	return nil
}

func (c *Config) complete() error {
	setDefault(&c.Name, "node1")
	setDefault(&c.PFs, 2)
	setDefault(&c.MemoryMiB, 2048)
	if c.NUMA {
		setDefault(&c.CPUs, 2)
	}
	setDefault(&c.CPUs, 1)
	setDefault(&c.VirtioVFs, 7)
	if c.Log == nil {
		c.Log = os.Stderr
	}
	if err := artifact.CheckKernel(c.Kernel); err != nil {
		return err
	}
	if c.PFs > maxRootPorts {
		c.DualPort = true
	}
	switch {
	case c.PFs < 1 || c.PFs > MaxPFs:
		return fmt.Errorf("PFs is %d, want 1 to %d", c.PFs, MaxPFs)
	case c.VirtualNICs < 0 || c.VirtualNICs > maxVirtualNICs:
		return fmt.Errorf("VirtualNICs is %d, want 0 to %d", c.VirtualNICs, maxVirtualNICs)
	case c.VirtioPFs < 0 || c.VirtioPFs+c.cards() > maxRootPorts:
		return fmt.Errorf("VirtioPFs is %d, want 0 to %d: %d cards fit, and the igb ports take %d",
			c.VirtioPFs, maxRootPorts-c.cards(), maxRootPorts, c.cards())
	case c.VirtioVFs < 1 || c.VirtioVFs > maxVirtioVFs:
		return fmt.Errorf("VirtioVFs is %d, want 1 to %d", c.VirtioVFs, maxVirtioVFs)
	case c.MemoryMiB < 512 || c.MemoryMiB > maxMemory:
		return fmt.Errorf("MemoryMiB is %d, want 512 to %d: with more, emulated VFs do not work", c.MemoryMiB, maxMemory)
	case c.CPUs < 1 || c.CPUs > 16:
		return fmt.Errorf("CPUs is %d, want 1 to 16", c.CPUs)
	case c.NUMA && c.CPUs < 2:
		return fmt.Errorf("CPUs is %d, want at least 2 for two NUMA nodes", c.CPUs)
	case strings.ContainsFunc(c.Name, func(r rune) bool { return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') }):
		return fmt.Errorf("name is %q, want lower-case letters, digits and dashes", c.Name)
	}
	if c.Management != nil && !strings.HasPrefix(c.Management.Address, "10.0.2.") {
		return fmt.Errorf("management address is %q, want one in 10.0.2.0/24", c.Management.Address)
	}
	for _, m := range c.Modules {
		if strings.HasPrefix(m, "-") || strings.ContainsFunc(m, unicode.IsSpace) || m == "" {
			return fmt.Errorf("module %q, want a name", m)
		}
	}
	for name := range c.Disks {
		if len(name) == 0 || len(name) > 20 || strings.ContainsAny(name, ",/ ") {
			return fmt.Errorf("disk name %q, want 1 to 20 characters without comma, slash and space", name)
		}
	}
	return nil
}

// cards is how many the igb ports are on.
func (c *Config) cards() int {
	if c.DualPort {
		return (c.PFs + 1) / 2
	}
	return c.PFs
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
