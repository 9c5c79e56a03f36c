// SPDX-License-Identifier: Apache-2.0

package sriovtest

import (
	"fmt"
	"strings"
)

// Spec describes a host to generate.
type Spec struct {
	PFs        int // SR-IOV NICs with one PF each, at most 200
	VFs        int // VFs of each PF, at most 256
	Bystanders int // devices of other classes, which a scan has to pass over
	// VFDriver is bound to every VF; "" is a kernel driver, and each VF then
	// has a netdev.
	VFDriver string
	// RDMA gives every VF an RDMA device mlx5_0, mlx5_1, … with its verbs and MAD nodes.
	RDMA bool
}

// kernelDriver is what generated PFs, and VFs with netdevs, are bound to.
const kernelDriver, kernelVFDriver = "ice", "iavf"

// Generate is the text of a tree with PFs named pf0, pf1, … at 0000:01:00.0,
// 0000:05:00.0, … in NUMA nodes 0 and 1 by turns. VFs begin at the PF's address
// plus 8, one function each.
func Generate(s Spec) string {
	g := generator{}
	vfDriver := s.VFDriver
	if vfDriver == "" {
		vfDriver = kernelVFDriver
	}
	for _, d := range []string{kernelDriver, vfDriver} {
		g.line("sys/bus/pci/drivers/%s/", d)
	}
	g.line("sys/bus/pci/devices/")
	g.line("sys/class/net/")
	for i := range s.Bystanders {
		a := fmt.Sprintf("%04x:%02x:%02x.0", 0x0001+i/256/32, i/32%256, i%32)
		g.pci(a, "60400", "8086:A1B2", "", 0)
	}
	ifindex := 2
	for p := range s.PFs {
		bus := 1 + p*4%0xf0
		domain := p * 4 / 0xf0 * 0x10
		pf := fmt.Sprintf("%04x:%02x:00.0", domain, bus)
		g.pci(pf, "20000", "8086:159B", kernelDriver, p%2)
		g.netdev(pf, fmt.Sprintf("pf%d", p), ifindex)
		ifindex++
		for name, value := range map[string]int{"totalvfs": 256, "numvfs": s.VFs, "offset": 8, "stride": 1, "drivers_autoprobe": 1} {
			g.file(devices+pf+"/sriov_"+name, fmt.Sprint(value))
		}
		for v := range s.VFs {
			id := 8 + v
			vf := fmt.Sprintf("%04x:%02x:%02x.%d", domain, bus+id>>8, id>>3&31, id&7)
			g.pci(vf, "20000", "8086:1889", vfDriver, p%2)
			g.line("%s%s/physfn -> ../%s", devices, vf, pf)
			g.line("%s%s/virtfn%d -> ../%s", devices, pf, v, vf)
			g.group(vf, 100+p*1000+v)
			if s.RDMA {
				g.rdma(vf, p*s.VFs+v)
			}
			if s.VFDriver == "" {
				g.netdev(vf, fmt.Sprintf("pf%dv%d", p, v), ifindex)
				ifindex++
			}
		}
	}
	return g.text.String()
}

// devices is where the generated devices are; one flat directory will do.
const devices = "sys/devices/pci0000:00/"

type generator struct {
	text strings.Builder
}

func (g *generator) line(format string, args ...any) {
	fmt.Fprintf(&g.text, format+"\n", args...)
}

func (g *generator) file(path string, lines ...string) {
	g.line("%s", path)
	for _, l := range lines {
		g.line("\t%s", l)
	}
}

func (g *generator) pci(address, class, id, driver string, node int) {
	g.line("sys/bus/pci/devices/%s -> ../../../devices/pci0000:00/%s", address, address)
	vendor, device, _ := strings.Cut(id, ":")
	class6 := strings.Repeat("0", 6-len(class)) + class
	modalias := fmt.Sprintf("pci:v0000%sd0000%ssv00008086sd00000000bc%ssc%si%s", vendor, device, class6[:2], class6[2:4], class6[4:])
	lines := []string{"PCI_CLASS=" + class, "PCI_ID=" + id, "PCI_SUBSYS_ID=8086:0000", "PCI_SLOT_NAME=" + address, "MODALIAS=" + modalias}
	if driver != "" {
		lines = append([]string{"DRIVER=" + driver}, lines...)
		g.line("%s%s/driver -> ../../../bus/pci/drivers/%s", devices, address, driver)
	}
	g.file(devices+address+"/uevent", lines...)
	g.file(devices+address+"/numa_node", fmt.Sprint(node))
	// What libsriov takes from uevent, for programs that read it one by one.
	g.file(devices+address+"/modalias", modalias)
	g.file(devices+address+"/revision", "0x01")
}

func (g *generator) netdev(address, name string, ifindex int) {
	dir := devices + address + "/net/" + name
	g.file(dir+"/type", "1")
	g.file(dir+"/ifindex", fmt.Sprint(ifindex))
	g.line("sys/class/net/%s -> ../../devices/pci0000:00/%s/net/%s", name, address, name)
}

func (g *generator) group(address string, number int) {
	g.line("%s%s/iommu_group -> ../../../kernel/iommu_groups/%d", devices, address, number)
	g.line("sys/kernel/iommu_groups/%d/", number)
}

// rdma makes the RDMA device of a function, as ib_core and its character devices show it.
func (g *generator) rdma(address string, number int) {
	name := fmt.Sprintf("mlx5_%d", number)
	dir := devices + address + "/infiniband"
	g.file(dir+"/"+name+"/node_type", "1: CA")
	g.line("sys/class/infiniband/%s -> ../../devices/pci0000:00/%s/infiniband/%s", name, address, name)
	for class, kind := range map[string]string{"infiniband_verbs": "uverbs", "infiniband_mad": "umad"} {
		node := fmt.Sprintf("%s%d", kind, number)
		g.file(devices+address+"/"+class+"/"+node+"/ibdev", name)
		g.line("sys/class/%s/%s -> ../../devices/pci0000:00/%s/%s/%s", class, node, address, class, node)
	}
}
