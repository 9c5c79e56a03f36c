// Package pool decides which device goes into which resource pool. [Read]
// lists the devices of a host with the facts that selectors ask for; [Assign],
// which is pure, gives each device to at most one pool and keeps a reason for
// every pool that did not get it. The package knows neither kubelet nor gRPC.
package pool

import (
	"slices"
	"strings"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/libsriov"
)

// Device is one thing that a container can be given: a PCI function, or an
// auxiliary device below one.
type Device struct {
	// ID is what kubelet and containers call it: the PCI address, or the name
	// on the auxiliary bus.
	ID   string
	Type config.DeviceType

	// Function is the PCI function; for an auxiliary device the one it hangs
	// below, with Netdevs and RDMA those of the auxiliary device.
	libsriov.Function

	// PF is what the device is a part of: a VF's PF, an auxiliary device's
	// function. Nil for a device that stands alone, and for a VF inside a
	// virtual machine.
	PF *libsriov.Address
	// PFNames are the interface name and the alternative names of PF.
	PFNames []string
	// Number is a VF's index, or a sub-function's sfnum.
	Number uint32

	// Facts that are only read if a pool asks. Nil and "" mean that the host
	// does not say, which it also does not while a pod has the interface.
	LinkType  libsriov.LinkType
	ACPIIndex string
	PKey      string
	DDP       string
	Bound     []libsriov.VDPA // vDPA devices with their drivers

	// RDMACapable: it has an RDMA device, here or in some other namespace.
	RDMACapable bool
	// Carrier is the PF's, or the device's own without one; nil if unknown.
	Carrier *bool
	// IdlePF: an SR-IOV physical function without VFs. A pool has to ask for
	// it: its VFs may just not be created yet.
	IdlePF bool
	// Barred says why no pool may have the device at all; "" if one may.
	Barred string
}

// Needs says which facts some pool asks for.
type Needs struct {
	LinkType, ACPIIndex, PKey, DDP, VDPA, RDMA, Aux bool
	Accelerators, Links                             bool
}

// NeedsOf collects what the pools of a configuration ask for.
func NeedsOf(pools []config.Pool) Needs {
	var n Needs
	for _, p := range pools {
		n.Aux = n.Aux || p.DeviceType == config.AuxNetDevice
		n.Accelerators = n.Accelerators || p.DeviceType == config.Accelerator
		n.Links = n.Links || p.LinkHealth
		for _, s := range p.Selectors {
			n.LinkType = n.LinkType || len(s.LinkTypes) > 0
			n.ACPIIndex = n.ACPIIndex || len(s.ACPIIndexes) > 0
			n.PKey = n.PKey || len(s.PKeys) > 0
			n.DDP = n.DDP || len(s.DDPProfiles) > 0
			n.VDPA = n.VDPA || s.VDPA != ""
			n.RDMA = n.RDMA || s.RDMA
		}
	}
	return n
}

// BoundTo finds the vDPA device of a type; ok is false if there is none.
func (d Device) BoundTo(kind config.VDPAType) (v libsriov.VDPA, ok bool) {
	driver := libsriov.VDPAVhost
	if kind == config.VDPAVirtio {
		driver = libsriov.VDPAVirtio
	}
	i := slices.IndexFunc(d.Bound, func(v libsriov.VDPA) bool { return v.Driver == driver })
	if i < 0 {
		return v, false
	}
	return d.Bound[i], true
}

// Parent groups devices that share hardware: the PF, or the device itself.
func (d Device) Parent() libsriov.Address {
	if d.PF != nil {
		return *d.PF
	}
	return d.Address
}

// Compare orders devices by parent, number and ID: VF 2 before VF 10.
func Compare(a, b Device) int {
	if c := a.Parent().Compare(b.Parent()); c != 0 {
		return c
	}
	switch {
	case (a.PF == nil) != (b.PF == nil):
		if a.PF == nil {
			return -1
		}
		return 1
	case a.Number != b.Number:
		if a.Number < b.Number {
			return -1
		}
		return 1
	}
	return strings.Compare(a.ID, b.ID)
}
