// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/devlink"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/rdma"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// Found is the result of Discover.
type Found struct {
	Interfaces []v1.InterfaceExt // by PCI address
	RdmaMode   string            // "" without an RDMA subsystem
	RdmaErr    error             // the mode could not be read
	// MACs are the addresses that PFs report for their Ethernet VFs (IFLA_VF_MAC), by the VF's
	// PCI address. Some drivers report the VF's own address where no administrative one is set.
	MACs map[string]net.HardwareAddr
	// OurVDPA are the VFs, by PCI address, that have a vDPA device with a name that the daemon
	// gives.
	OurVDPA map[string]bool
	// NoOffload are the PFs in switchdev mode, by PCI address, with hw-tc-offload off.
	NoOffload map[string]bool
	// Unread are the failures to read single devices or parts of them, by PCI address;
	// Partial those that cannot be attributed to a device. What could not be read must not be
	// taken for absent.
	Unread  map[string]error
	Partial error
}

// broken records a failure to read a device.
func (f *Found) broken(device string, err error) {
	if f.Unread == nil {
		f.Unread = map[string]error{}
	}
	f.Unread[device] = errors.Join(f.Unread[device], err)
}

// take records the errors of a snapshot under the devices that they are about.
func (f *Found) take(err error) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			f.take(e)
		}
		return
	}
	var device *libsriov.DeviceError
	if errors.As(err, &device) {
		f.broken(device.Device, err)
		return
	}
	f.Partial = errors.Join(f.Partial, err)
}

// Discover reads the host's network functions. A device that cannot be read is left out
// and reported in the error; the result is still good for all others.
func Discover(host *libsriov.Host) (Found, error) {
	var found Found
	snapshot, err := host.Snapshot()
	found.take(err)
	l := looker{host: host, found: &found}
	if l.links, err = linksByName(); err != nil {
		found.Partial = errors.Join(found.Partial, err)
	}
	if l.modes, err = devlink.Open(); err == nil {
		defer l.modes.Close()
	} else if l.modes = nil; !errors.Is(err, devlink.ErrNotSupported) {
		found.Partial = errors.Join(found.Partial, err)
	}
	for _, pf := range snapshot.PFs {
		if pf.Class.Base() == libsriov.ClassNetwork {
			found.Interfaces = append(found.Interfaces, l.pf(pf))
		}
	}
	for _, f := range snapshot.Functions {
		if f.Class.Base() != libsriov.ClassNetwork {
			continue
		}
		i := describe(host, f, l.links)
		if isVF(f) { // without its PF, as in a virtual machine
			i.TotalVfs, i.NumVfs = 1, 1
			i.VFs = []v1.VirtualFunction{l.vf(i.PciAddress, f, 0)}
		}
		found.Interfaces = append(found.Interfaces, i)
	}
	slices.SortFunc(found.Interfaces, func(a, b v1.InterfaceExt) int {
		x, _ := libsriov.ParseAddress(a.PciAddress)
		y, _ := libsriov.ParseAddress(b.PciAddress)
		return x.Compare(y)
	})
	found.RdmaMode, found.RdmaErr = rdmaMode()
	errs := []error{found.Partial}
	for _, device := range slices.Sorted(maps.Keys(found.Unread)) {
		errs = append(errs, found.Unread[device])
	}
	return found, errors.Join(append(errs, found.RdmaErr)...)
}

// looker describes functions, given what was read once for all of them.
type looker struct {
	host  *libsriov.Host
	links map[string]link.Link // by name
	modes *devlink.Conn        // nil without devlink
	found *Found
}

func (l *looker) pf(pf libsriov.PF) v1.InterfaceExt {
	i := describe(l.host, pf.Function, l.links)
	i.TotalVfs, i.NumVfs = pf.TotalVFs, pf.NumVFs
	if l.modes != nil {
		if mode, err := l.modes.Mode(devlink.PCI(pf.Address)); err == nil {
			i.EswitchMode = mode.String()
		} else if !errors.Is(err, devlink.ErrNotSupported) {
			l.found.broken(i.PciAddress, fmt.Errorf("eswitch mode of %s: %w", pf.Address, err))
		}
	}
	var states map[int]vfstate.State
	if i.Name != "" && pf.NumVFs > 0 {
		var err error
		if states, err = vfStates(l.links[i.Name].Index); err != nil {
			l.found.broken(i.PciAddress, err)
		}
	}
	for _, vf := range pf.VFs {
		v := l.vf(i.PciAddress, vf.Function, vf.Index)
		switch state := states[vf.Index]; {
		case i.LinkType == v1.LinkTypeIB && state.NodeGUID != nil:
			v.GUID = state.NodeGUID.String()
		case i.LinkType == v1.LinkTypeETH && state.MAC != nil:
			if l.found.MACs == nil {
				l.found.MACs = map[string]net.HardwareAddr{}
			}
			l.found.MACs[v.PciAddress] = state.MAC
		}
		i.VFs = append(i.VFs, v)
	}
	if i.EswitchMode == v1.EswitchSwitchdev {
		l.switchdev(&i)
	}
	return i
}

// switchdev adds what PFs have in switchdev mode only: the representors of the VFs, and
// whether flows can be offloaded (https://docs.kernel.org/networking/representors.html).
func (l *looker) switchdev(pf *v1.InterfaceExt) {
	for _, port := range l.links {
		if vf, ok := representedVF(port.PortName); ok && port.Parent == pf.PciAddress {
			for i := range pf.VFs {
				if pf.VFs[i].VfID == vf {
					pf.VFs[i].RepresentorName = port.Name
				}
			}
		}
	}
	if pf.Name == "" {
		return
	}
	switch on, known, err := offloads(pf.Name); {
	case err != nil:
		l.found.broken(pf.PciAddress, err)
	case known && !on:
		if l.found.NoOffload == nil {
			l.found.NoOffload = map[string]bool{}
		}
		l.found.NoOffload[pf.PciAddress] = true
	}
}

// representedVF parses the VF's index from a representor's phys_port_name, such as pf0vf3
// or c1pf0vf3.
func representedVF(port string) (vf int, ok bool) {
	at := strings.LastIndex(port, "vf")
	if at <= 0 {
		return 0, false
	}
	n, err := strconv.ParseUint(port[at+2:], 10, 16)
	return int(n), err == nil
}

func isZero(mac net.HardwareAddr) bool {
	return !slices.ContainsFunc(mac, func(b byte) bool { return b != 0 })
}

// linksByName reads all interfaces of the host, in one dump.
func linksByName() (map[string]link.Link, error) {
	c, err := link.Open(nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	all, err := c.All()
	if err != nil {
		return nil, err
	}
	byName := make(map[string]link.Link, len(all))
	for _, l := range all {
		byName[l.Name] = l
	}
	return byName, nil
}

// describe returns the status of a function. The fields of its netdev are empty if it has
// none here: it is bound to vfio-pci, or its netdev is in a pod.
func describe(host *libsriov.Host, f libsriov.Function, links map[string]link.Link) v1.InterfaceExt {
	i := v1.InterfaceExt{
		PciAddress: f.Address.String(), Driver: f.Driver, Vendor: f.Vendor.String(), DeviceID: f.Device.String(),
	}
	name, err := host.Uplink(f)
	l, ok := links[name]
	if err != nil || !ok {
		return i
	}
	i.Name, i.Mac, i.Mtu, i.AltNames = l.Name, l.MAC.String(), l.MTU, l.AltNames
	i.PermanentMac = l.PermMAC.String()
	i.LinkAdminState = "down"
	if l.Up() {
		i.LinkAdminState = "up"
	}
	i.LinkType = v1.LinkTypeETH
	if l.Type == libsriov.LinkInfiniBand {
		i.LinkType = v1.LinkTypeIB
	}
	if mbits, ok, err := host.LinkSpeed(l.Name); err == nil && ok {
		i.LinkSpeed = fmt.Sprintf("%d Mb/s", mbits)
	}
	return i
}

// vf describes a VF. pf is the PCI address under which failures are recorded: its PF's, or
// its own if the PF is not visible.
func (l *looker) vf(pf string, f libsriov.Function, index int) v1.VirtualFunction {
	vf := v1.VirtualFunction{
		PciAddress: f.Address.String(), VfID: index, Driver: f.Driver, Vendor: f.Vendor.String(), DeviceID: f.Device.String(),
	}
	if len(f.Netdevs) > 0 {
		if link, ok := l.links[f.Netdevs[0]]; ok {
			vf.Name, vf.Mac, vf.Mtu = link.Name, link.MAC.String(), link.MTU
		}
	}
	for _, name := range f.VDPA { // one at most
		switch device, err := l.host.VDPA(name); {
		case errors.Is(err, libsriov.ErrNoDevice): // removed meanwhile
		case err != nil:
			l.found.broken(pf, err)
		default:
			vf.VdpaType = vdpaType(device.Driver)
			if name == vdpaName(f.Address) {
				if l.found.OurVDPA == nil {
					l.found.OurVDPA = map[string]bool{}
				}
				l.found.OurVDPA[vf.PciAddress] = true
			}
		}
	}
	return vf
}

func rdmaMode() (string, error) {
	c, err := rdma.Open(nil)
	if errors.Is(err, rdma.ErrNotSupported) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	defer c.Close()
	mode, err := c.Mode()
	if errors.Is(err, rdma.ErrNotSupported) {
		return "", nil
	}
	return string(mode), err
}
