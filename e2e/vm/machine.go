// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"

	"github.com/sriovkit/sriovkit/e2e/artifact"
)

// machine collects the arguments of QEMU and the files it inherits.
type machine struct {
	args  []string
	files []*os.File // descriptors 3, 4, ... of QEMU
}

func (m *machine) add(args ...string)                { m.args = append(m.args, args...) }
func (m *machine) device(format string, args ...any) { m.add("-device", fmt.Sprintf(format, args...)) }

// inherit passes f on and returns its descriptor in QEMU.
func (m *machine) inherit(f *os.File) int {
	m.files = append(m.files, f)
	return 2 + len(m.files)
}

// newMachine describes the whole computer. Everything QEMU talks through is a
// descriptor, so that it leaves nothing in any file system.
func newMachine(c Config, node artifact.Node, a accel, agent, monitor *os.File, fabric *fabricEnd) *machine {
	m := &machine{}
	m.add(a.args...)
	m.add("-smp", strconv.Itoa(c.CPUs))
	m.add("-m", strconv.Itoa(c.MemoryMiB)+"M")
	m.add("-display", "none", "-vga", "none", "-nodefaults", "-no-reboot", "-serial", "stdio")
	m.add("-kernel", node.Kernel, "-initrd", node.Initramfs)
	// no_timer_check: on a busy host the emulated timer can miss the kernel's test
	// of it, which then panics. unknown_nmi_panic: see Stuck.
	m.add("-append", "console=ttyS0 panic=-1 no_timer_check unknown_nmi_panic intel_iommu=on iommu=pt net.ifnames=0 node.name="+c.Name)
	if !c.NoIOMMU {
		m.device("intel-iommu,intremap=on")
	}
	m.device("virtio-serial-pci,bus=pcie.0")
	m.add("-chardev", fmt.Sprintf("socket,id=agent,fd=%d,server=on,wait=off", m.inherit(agent)))
	m.device("virtserialport,chardev=agent,name=agent")
	m.add("-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", m.inherit(monitor)), "-mon", "chardev=monitor,mode=control")

	m.disk("root", node.Disk, "snapshot=on,cache=unsafe")
	for _, name := range slices.Sorted(maps.Keys(c.Disks)) {
		m.disk(name, c.Disks[name], "readonly=on")
	}
	if c.NUMA {
		m.numa(c)
	}
	if c.Management != nil {
		m.management(*c.Management)
	}
	m.network(c, fabric)
	return m
}

func (m *machine) disk(name, path, options string) {
	m.add("-drive", fmt.Sprintf("file=%s,format=raw,if=none,id=disk-%s,%s", path, name, options))
	// By default a machine stands still, without a word, when the disk below has no room.
	m.device("virtio-blk-pci,bus=pcie.0,drive=disk-%s,serial=%s,werror=report,rerror=report", name, name)
}

func (m *machine) numa(c Config) {
	half := c.CPUs / 2
	for node, cpus := range []string{fmt.Sprintf("0-%d", half-1), fmt.Sprintf("%d-%d", half, c.CPUs-1)} {
		m.add("-object", fmt.Sprintf("memory-backend-ram,id=ram%d,size=%dM", node, c.MemoryMiB/2))
		m.add("-numa", fmt.Sprintf("node,nodeid=%d,cpus=%s,memdev=ram%d", node, cpus, node))
	}
	// What is on the main bus belongs to no node, so each gets a bus of its own.
	m.device("pxb-pcie,id=numa0,bus_nr=64,numa_node=0,bus=pcie.0")
	m.device("pxb-pcie,id=numa1,bus_nr=128,numa_node=1,bus=pcie.0")
}

func (m *machine) management(n Management) {
	user := "user,id=mgmt,net=10.0.2.0/24,host=10.0.2.2"
	for _, port := range n.Forwards {
		user += fmt.Sprintf(",hostfwd=tcp:%s:%d-%s:%d", n.Address, port, n.Address, port)
	}
	m.add("-netdev", user)
	m.device("virtio-net-pci,bus=pcie.0,netdev=mgmt,mac=52:54:00:00:ff:01,romfile=")
}

// network adds the igb ports. All of them, and those of the other node on the
// same fabric, are on one hub: an unmanaged switch.
func (m *machine) network(c Config, fabric *fabricEnd) {
	side := 0
	if fabric != nil {
		side = fabric.side
		m.add("-netdev", fmt.Sprintf("stream,id=fabric,addr.type=fd,addr.str=%d", m.inherit(fabric.file)))
		m.add("-netdev", "hubport,id=hub-fabric,hubid=1,netdev=fabric")
	}
	for i := range c.PFs {
		card, function := i, 0
		if c.DualPort {
			card, function = i/2, i%2
		}
		if function == 0 {
			bus := "pcie.0"
			if c.NUMA {
				bus = fmt.Sprintf("numa%d", card%2)
			}
			m.device("pcie-root-port,id=port%d,chassis=%d,slot=%d,bus=%s", card, card+1, card+1, bus)
		}
		address := ""
		if c.DualPort {
			address = fmt.Sprintf(",addr=0.%d,multifunction=on", function)
			if function == 0 && i+1 < c.PFs {
				address += ",x-pcie-ari-nextfn-1=on" // else Linux does not look for function 1
			}
		}
		m.add("-netdev", fmt.Sprintf("hubport,id=hub%d,hubid=1", i))
		m.device("igb,id=%s,bus=port%d%s,netdev=hub%d,mac=%s,romfile=", nicID(i), card, address, i, pfMAC(side, i))
	}
	for i := range c.VirtioPFs {
		m.virtioCard(c, side, i)
	}
	for i := range c.VirtualNICs {
		m.add("-netdev", fmt.Sprintf("hubport,id=hub-virtual%d,hubid=1", i))
		m.device("virtio-net-pci,bus=pcie.0,addr=%#x,netdev=hub-virtual%d,mac=52:54:00:%02x:ff:%02x,romfile=", virtualSlot+i, i, side, i+2)
	}
}

// virtioCard adds a port with SR-IOV that is made of virtio-net functions: VFs at
// functions 1 and on, and last their PF at function 0. Each has a fixed address.
func (m *machine) virtioCard(c Config, side, card int) {
	chassis := c.cards() + card + 1
	m.device("pcie-root-port,id=virtio%d,chassis=%d,slot=%d,bus=pcie.0", card, chassis, chassis)
	function := func(n int, sriov string) {
		m.add("-netdev", fmt.Sprintf("hubport,id=hub-virtio%d-%d,hubid=1", card, n))
		m.device("virtio-net-pci,bus=virtio%d,addr=%#x.%#x,netdev=hub-virtio%d-%d,mac=52:54:00:%02x:%02x:%02x,romfile=,%s",
			card, n/8, n%8, card, n, side, 0x40+card, n, sriov)
	}
	for n := 1; n <= c.VirtioVFs; n++ {
		function(n, fmt.Sprintf("sriov-pf=virtio-pf%d", card))
	}
	function(0, fmt.Sprintf("id=virtio-pf%d", card))
}

// nicID is the name of a PF in QEMU.
func nicID(pf int) string { return fmt.Sprintf("nic%d", pf) }

// pfMAC is the permanent address of a PF; the nodes of a fabric must differ.
func pfMAC(side, pf int) string { return fmt.Sprintf("52:54:00:%02x:%02x:00", side, pf+1) }
