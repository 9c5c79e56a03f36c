// SPDX-License-Identifier: Apache-2.0

package libsriov

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Kernel objects that hang below a PCI function, and where sysfs lists all of
// a kind as links into the device tree. Such a link names the function it
// belongs to, so one readlink an object places it.
const (
	netClass  = "sys/class/net"
	rdmaClass = "sys/class/infiniband"
	vdpaBus   = "sys/bus/vdpa/devices"
	auxBus    = "sys/bus/auxiliary/devices"
)

// children hands every netdev, RDMA, vDPA and auxiliary device to the function
// it hangs below.
func (s *scan) children(h *Host) error {
	for _, dir := range []string{auxBus, netClass, rdmaClass, vdpaBus} { // aux first: others hang below it
		names, err := h.fs.Names(dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			target, err := h.fs.Link(dir + "/" + name)
			if err != nil {
				continue // class/net also holds plain files (bonding_masters); or it is gone
			}
			if a, aux, ok := owner(target); ok && s.functions[a] != nil {
				s.functions[a].attach(dir, name, aux)
			}
		}
	}
	return nil
}

// isAuxName reports whether a name is one that the auxiliary bus composes: module.kind.number.
func isAuxName(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	module, rest, _ := strings.Cut(name, ".")
	kind, number, _ := strings.Cut(rest, ".")
	return module != "" && kind != "" && strings.Trim(module+kind, letters) == "" && isNumbered(number, "")
}

// owner finds in a sysfs path the innermost PCI function, and the auxiliary
// device below it if the path runs through one.
func owner(target string) (a Address, aux string, found bool) {
	for element := range strings.SplitSeq(path.Dir(target), "/") {
		if parsed, err := ParseAddress(element); err == nil {
			a, aux, found = parsed, "", true
		} else if isAuxName(element) {
			aux = element
		}
	}
	return a, aux, found
}

// attach records an object of the kind that dir lists.
func (f *Function) attach(dir, name, aux string) {
	netdevs, rdma := &f.Netdevs, &f.RDMA
	if i := slices.IndexFunc(f.Aux, func(x Aux) bool { return x.Name == aux }); i >= 0 {
		netdevs, rdma = &f.Aux[i].Netdevs, &f.Aux[i].RDMA
	}
	switch dir {
	case auxBus:
		f.Aux = append(f.Aux, Aux{Name: name})
	case netClass:
		*netdevs = append(*netdevs, name)
	case rdmaClass:
		*rdma = append(*rdma, name)
	case vdpaBus:
		f.VDPA = append(f.VDPA, name)
	}
}

// readChildren is children for one function, without a look at any other.
func (h *Host) readChildren(f *Function) (err error) {
	dir := device(f.Address, "")
	names, err := h.fs.Names(dir)
	if err != nil {
		return err
	}
	vdpa, err := h.fs.Names(vdpaBus)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !isAuxName(name) {
			continue
		}
		aux := Aux{Name: name}
		if aux.Netdevs, err = h.fs.Names(dir + name + "/net"); err != nil {
			return err
		}
		if aux.RDMA, err = h.fs.Names(dir + name + "/infiniband"); err != nil {
			return err
		}
		f.Aux = append(f.Aux, aux)
	}
	return h.readClasses(f, dir, names, vdpa)
}

// readClasses reads the net and infiniband directories among names, which lie
// in dir, and those below the vDPA and virtio devices that may stand between a
// function and its netdev.
func (h *Host) readClasses(f *Function, dir string, names, vdpa []string) error {
	for _, name := range names {
		isVDPA := slices.Contains(vdpa, name)
		if isVDPA {
			f.VDPA = append(f.VDPA, name)
		}
		if name != "net" && name != "infiniband" && !isVDPA && !isNumbered(name, "virtio") {
			continue
		}
		below, err := h.fs.Names(dir + name)
		if err != nil {
			return err
		}
		switch name {
		case "net":
			f.Netdevs = append(f.Netdevs, below...)
		case "infiniband":
			f.RDMA = append(f.RDMA, below...)
		default:
			if err := h.readClasses(f, dir+name+"/", below, vdpa); err != nil {
				return err
			}
		}
	}
	return nil
}

// isUplinkPort reports whether a phys_port_name is that of a physical port: p0, or p0s1 for a
// split port. A representor's is such as "pf0vf3"
// (https://docs.kernel.org/networking/switchdev.html).
func isUplinkPort(name string) bool {
	port, part, split := strings.Cut(name, "s")
	return isNumbered(port, "p") && (!split || isNumbered(part, ""))
}

// Uplink names the interface of a PF that goes to the wire, the first by name if several do.
// It is ErrNoNetdev if the PF has none here.
func (h *Host) Uplink(pf Function) (string, error) {
	all, err := h.Uplinks(pf)
	if err != nil {
		return "", err
	}
	return all[0], nil
}

// Uplinks names the interfaces of a PF that go to the wire. A PF has one, or one for each
// port where a function has several (drivers/net/ethernet/mellanox/mlx4). In switchdev mode,
// where the representors of the VFs sit beside it, it is the one whose phys_port_name is a
// physical port's. It is ErrNoNetdev if the PF has none here.
func (h *Host) Uplinks(pf Function) ([]string, error) {
	switch len(pf.Netdevs) {
	case 0:
		return nil, fmt.Errorf("%s: %w", pf.Address, ErrNoNetdev)
	case 1:
		return pf.Netdevs, nil
	}
	var unnamed []string // without a phys_port_name
	for _, name := range pf.Netdevs {
		port, said, err := h.fs.OptionalAttr(netClass + "/" + name + "/phys_port_name")
		switch {
		case err != nil:
			return nil, err
		case isUplinkPort(port):
			return []string{name}, nil
		case !said:
			unnamed = append(unnamed, name)
		}
	}
	if len(unnamed) == 0 {
		return nil, fmt.Errorf("%s: only representors: %w", pf.Address, ErrNoNetdev)
	}
	return unnamed, nil
}

// isNumbered reports whether a name is a prefix and a decimal number.
func isNumbered(name, prefix string) bool {
	digits, ok := strings.CutPrefix(name, prefix)
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}
