// SPDX-License-Identifier: Apache-2.0

// Package device describes what a container can be given: a PCI function or an auxiliary
// device, with the facts that selectors of resource pools ask for.
package device

import (
	"slices"
	"strings"

	"github.com/sriovkit/sriovkit/libsriov"
)

// Type says what kind of device a pool holds.
type Type string

// Device types, as they are spelled in the configuration.
const (
	Net         Type = "netDevice"    // PCI class 02
	Accelerator Type = "accelerator"  // PCI class 12
	AuxNet      Type = "auxNetDevice" // sub-functions on the auxiliary bus
)

// VDPAType is who consumes a vDPA device.
type VDPAType string

// vDPA types, as they are spelled in the configuration.
const (
	VDPAVirtio VDPAType = "virtio" // bound to virtio_vdpa: a netdev
	VDPAVhost  VDPAType = "vhost"  // bound to vhost_vdpa: a character device
)

// Device is one thing that a container can be given: a PCI function, or an
// auxiliary device below one.
type Device struct {
	// ID is what kubelet and containers call it: the PCI address, or the name
	// on the auxiliary bus.
	ID   string
	Type Type

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
	// OwnNumber: no VF of this host's PFs has the device number of this PF, so that whoever
	// names the number means PFs.
	OwnNumber bool
	// Barred says why no pool may have the device at all; "" if one may.
	Barred string
}

// Needs says which facts some pool asks for.
type Needs struct {
	LinkType, ACPIIndex, PKey, DDP, VDPA, RDMA, Aux bool
	Accelerators, Links, VFNumbers                  bool
}

// BoundTo finds the vDPA device of a type; ok is false if there is none.
func (d Device) BoundTo(kind VDPAType) (v libsriov.VDPA, ok bool) {
	driver := libsriov.VDPAVhost
	if kind == VDPAVirtio {
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

// HasPFName reports whether the PF has an interface of a name, in any case.
func (d *Device) HasPFName(name string) bool {
	return slices.ContainsFunc(d.PFNames, func(n string) bool { return strings.EqualFold(n, name) })
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
