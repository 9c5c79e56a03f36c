package pool

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sriovkit/sriovkit/device-plugin/config"
)

// Check is a condition that a device did not meet; Taken means that it met all.
type Check uint8

// Conditions, in the order in which they are looked at.
const (
	Taken Check = iota
	OtherType
	Barred
	InUse   // by a pod, as a device of another resource
	Earlier // a pool further up in the file has it
	NoDriver
	IdlePF
	Vendors
	Devices
	Drivers
	PCIAddresses
	ACPIIndexes
	AuxTypes
	PFNames
	RootDevices
	LinkTypes
	DDPProfiles
	PKeys
	IsRDMA
	VDPAType
)

// match tells which condition of a selector a device fails first. For a device
// that a pod holds as one of this pool, what the host does not say while the
// pod has the interface counts as it was when it was given out.
func match(d *Device, s *config.Selector, held bool) Check {
	unsaid := func(missing bool) bool { return held && missing }
	switch {
	case !in(s.Vendors, d.Vendor):
		return Vendors
	case !in(s.Devices, d.Device):
		return Devices
	case !in(s.Drivers, d.Driver):
		return Drivers
	case !in(s.PCIAddresses, d.Address):
		return PCIAddresses
	case !in(s.ACPIIndexes, d.ACPIIndex):
		return ACPIIndexes
	case len(s.AuxTypes) > 0 && !slices.ContainsFunc(s.AuxTypes, func(t string) bool { return strings.Contains(d.ID, "."+t+".") }):
		return AuxTypes
	case !inRanges(s.PFNames, d, func(r config.Range) bool { return d.hasPFName(r.Parent) }):
		return PFNames
	case !inRanges(s.RootDevices, d, func(r config.Range) bool { return r.Parent == d.PF.String() }):
		return RootDevices
	case !in(s.LinkTypes, d.LinkType) && !unsaid(d.LinkType == 0):
		return LinkTypes
	case !in(s.DDPProfiles, d.DDP):
		return DDPProfiles
	case !in(s.PKeys, d.PKey) && !unsaid(d.PKey == ""):
		return PKeys
	case s.RDMA && !d.RDMACapable && !unsaid(len(d.Netdevs) == 0):
		return IsRDMA
	}
	if s.VDPA != "" {
		if _, ok := d.BoundTo(s.VDPA); !ok {
			return VDPAType
		}
	}
	return Taken
}

func in[T comparable](allowed []T, have T) bool {
	return len(allowed) == 0 || slices.Contains(allowed, have)
}

func inRanges(ranges []config.Range, d *Device, parent func(config.Range) bool) bool {
	return len(ranges) == 0 || d.PF != nil && slices.ContainsFunc(ranges, func(r config.Range) bool {
		return parent(r) && r.Contains(d.Number)
	})
}

func (d *Device) hasPFName(name string) bool {
	return slices.ContainsFunc(d.PFNames, func(n string) bool { return strings.EqualFold(n, name) })
}

// admit checks what does not depend on a selector.
func admit(d *Device, p *config.Pool) Check {
	switch {
	case d.Type != p.DeviceType:
		return OtherType
	case d.Barred != "":
		return Barred
	case d.Driver == "":
		return NoDriver
	case d.IdlePF && !p.IncludePFs && !namedByAddress(d, p):
		return IdlePF
	}
	return Taken
}

// namedByAddress: a pool that lists a PF by its own address has asked for it.
func namedByAddress(d *Device, p *config.Pool) bool {
	return slices.ContainsFunc(p.Selectors, func(s config.Selector) bool {
		return slices.Contains(s.PCIAddresses, d.Address)
	})
}

// Explain says in words why a pool did not take a device. The selector is the
// last one that was tried.
func (c Check) Explain(d *Device, s *config.Selector) string {
	wants := func(key string, have any, want any) string {
		return fmt.Sprintf("%s: has %v, wants %v", key, have, want)
	}
	part := fmt.Sprintf("%d of %s", d.Number, strings.Join(d.PFNames, ","))
	if d.PF == nil {
		part = "no PF"
	}
	switch c {
	case Taken:
		return "taken"
	case OtherType:
		return "is a " + string(d.Type)
	case Barred:
		return d.Barred
	case InUse:
		return "in use by a pod as a device of another resource"
	case Earlier:
		return "a pool further up takes it"
	case NoDriver:
		return "bound to no driver"
	case IdlePF:
		return "SR-IOV PF without VFs; name it in pciAddresses or set includePFs"
	case Vendors:
		return wants("vendors", d.Vendor, s.Vendors)
	case Devices:
		return wants("devices", d.Device, s.Devices)
	case Drivers:
		return wants("drivers", d.Driver, s.Drivers)
	case PCIAddresses:
		return wants("pciAddresses", d.Address, s.PCIAddresses)
	case ACPIIndexes:
		return wants("acpiIndexes", orNone(d.ACPIIndex), s.ACPIIndexes)
	case AuxTypes:
		return wants("auxTypes", d.ID, s.AuxTypes)
	case PFNames:
		return wants("pfNames", part, s.PFNames)
	case RootDevices:
		return wants("rootDevices", part, s.RootDevices)
	case LinkTypes:
		if d.LinkType == 0 {
			return wants("linkTypes", "none", s.LinkTypes)
		}
		return wants("linkTypes", d.LinkType, s.LinkTypes)
	case DDPProfiles:
		return wants("ddpProfiles", orNone(d.DDP), s.DDPProfiles)
	case PKeys:
		return wants("pKeys", orNone(d.PKey), s.PKeys)
	case IsRDMA:
		return "isRdma: has no RDMA device"
	case VDPAType:
		return wants("vdpaType", d.Bound, s.VDPA)
	}
	return fmt.Sprintf("check %d", c)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
