// SPDX-License-Identifier: Apache-2.0

// Package vdpa lists, creates, binds and removes vDPA devices: virtio devices that a VF
// serves in hardware (https://docs.kernel.org/driver-api/vdpa.html). It stands on govdpa,
// which speaks the kernel's generic netlink family; what sysfs tells of a device is in
// package libsriov.
package vdpa

import (
	"errors"

	"github.com/sriovkit/sriovkit/libsriov"
)

// ErrNotSupported: the kernel has no vDPA, or its module is not loaded.
var ErrNotSupported = errors.New("no vDPA in this kernel; try: modprobe vdpa")

// ErrExists: the parent has a device already. Drivers offer one for each VF; some
// (vp_vdpa of Linux 6.12) accept a second one and crash when it is removed.
var ErrExists = errors.New("it has a vDPA device already")

// Parent is what vDPA devices are made of (a management device).
type Parent struct {
	Bus  string // "pci" for a VF; "" for vdpasim_net
	Name string // PCI address of the VF
}

// Of is a VF as a parent. It is one as soon as a driver is bound that offers it: mlx5_core
// in switchdev mode, vp-vdpa, and others.
func Of(vf libsriov.Address) Parent { return Parent{Bus: "pci", Name: vf.String()} }

func (p Parent) String() string {
	if p.Bus == "" {
		return p.Name
	}
	return p.Bus + "/" + p.Name
}

// Device is a vDPA device and what it was made of.
type Device struct {
	Name   string
	Parent Parent
	Driver string // libsriov.VDPAVhost, libsriov.VDPAVirtio or "" if bound to neither
}
