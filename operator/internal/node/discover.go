package node

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/devlink"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/rdma"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// Found is what Discover saw.
type Found struct {
	Interfaces []v1.InterfaceExt // by PCI address
	RdmaMode   string            // "" without an RDMA subsystem
}

// Discover reads the host. A device that cannot be read is left out and reported in
// the error beside a good result for all others.
func Discover(host *libsriov.Host) (Found, error) {
	var found Found
	snapshot, err := host.Snapshot()
	errs := []error{err}
	links, err := linksByDevice()
	errs = append(errs, err)

	modes, err := devlink.Open()
	if err == nil {
		defer modes.Close()
	} else if !errors.Is(err, devlink.ErrNotSupported) {
		errs = append(errs, err)
	}
	for _, pf := range snapshot.PFs {
		if pf.Class.Base() != libsriov.ClassNetwork {
			continue
		}
		i := describe(host, pf.Function, links)
		i.TotalVfs, i.NumVfs = pf.TotalVFs, pf.NumVFs
		if modes != nil {
			if mode, err := modes.Mode(devlink.PCI(pf.Address)); err == nil {
				i.EswitchMode = mode.String()
			} else if !errors.Is(err, devlink.ErrNotSupported) {
				errs = append(errs, fmt.Errorf("eswitch mode of %s: %w", pf.Address, err))
			}
		}
		var guids map[int]string
		if i.LinkType == v1.LinkTypeIB && pf.NumVFs > 0 {
			if guids, err = vfGUIDs(links[i.Name].Index); err != nil {
				errs = append(errs, err)
			}
		}
		for _, vf := range pf.VFs {
			v := describeVF(vf.Function, vf.Index, links)
			v.GUID = guids[vf.Index]
			i.VFs = append(i.VFs, v)
		}
		found.Interfaces = append(found.Interfaces, i)
	}
	for _, f := range snapshot.Functions {
		if f.Class.Base() != libsriov.ClassNetwork {
			continue
		}
		i := describe(host, f, links)
		if isVF(f) { // and its PF is not in sight: a virtual machine
			i.TotalVfs, i.NumVfs = 1, 1
			i.VFs = []v1.VirtualFunction{describeVF(f, 0, links)}
		}
		found.Interfaces = append(found.Interfaces, i)
	}
	slices.SortFunc(found.Interfaces, func(a, b v1.InterfaceExt) int {
		x, _ := libsriov.ParseAddress(a.PciAddress)
		y, _ := libsriov.ParseAddress(b.PciAddress)
		return x.Compare(y)
	})
	found.RdmaMode, err = rdmaMode()
	return found, errors.Join(append(errs, err)...)
}

// linksByDevice reads all interfaces of the host in one dump, by name.
func linksByDevice() (map[string]link.Link, error) {
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

// describe reports one function. Without a netdev (bound to vfio-pci, or moved into
// a pod) the fields of the link stay empty.
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

func describeVF(f libsriov.Function, index int, links map[string]link.Link) v1.VirtualFunction {
	vf := v1.VirtualFunction{
		PciAddress: f.Address.String(), VfID: index, Driver: f.Driver, Vendor: f.Vendor.String(), DeviceID: f.Device.String(),
	}
	if len(f.Netdevs) > 0 {
		if l, ok := links[f.Netdevs[0]]; ok {
			vf.Name, vf.Mac, vf.Mtu = l.Name, l.MAC.String(), l.MTU
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
