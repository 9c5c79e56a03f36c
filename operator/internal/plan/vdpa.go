// SPDX-License-Identifier: Apache-2.0

package plan

import v1 "github.com/sriovkit/sriovkit/operator/api/v1"

// VirtioVDPADriver takes a virtio function as what vDPA devices are made of. On NICs whose
// own driver makes them (mlx5_core in switchdev mode) no other is needed.
const VirtioVDPADriver = "vp-vdpa"

// serves reports whether a VF is what its group asks for: its driver, and its vDPA device.
func serves(g v1.VfGroup, vf *v1.VirtualFunction) bool {
	if g.VdpaType != "" {
		return vf.VdpaType == g.VdpaType
	}
	return DriverFits(g.DeviceType, vf.Driver) && vf.Driver != VirtioVDPADriver && !keepsVDPA(g, vf)
}

// keepsVDPA reports whether a VF has a vDPA device that its group does not ask for, and that a
// change of its driver would not be the way to end.
func keepsVDPA(g v1.VfGroup, vf *v1.VirtualFunction) bool {
	return g.VdpaType == "" && g.DeviceType != v1.DeviceTypeVFIO && vf.VdpaType != ""
}

// endsVDPA reports whether a VF has a vDPA device, or is kept for one, that its group, if
// it is in one, does not ask for. A device on a driver that serves interfaces as well
// somebody may have made by hand, unless an earlier group of ours asked for it, or ours tells
// by its name that it was made here: what could not be removed at once is in no record.
func endsVDPA(g v1.VfGroup, inGroup bool, vf *v1.VirtualFunction, ours bool, before v1.Interface) bool {
	if g.VdpaType != "" || g.DeviceType == v1.DeviceTypeVFIO {
		return false // made of another type, or taken from its driver, and with that gone
	}
	if old, had := GroupOf(before, vf.VfID); had && old.VdpaType != "" {
		return vf.VdpaType != "" || vf.Driver == VirtioVDPADriver
	}
	return inGroup && (vf.Driver == VirtioVDPADriver || ours && vf.VdpaType != "")
}

// vdpaStep makes, changes or, with an empty type, removes the vDPA device of a VF.
func vdpaStep(vf *v1.VirtualFunction, kind string) Step {
	s := Step{Op: OpVDPA, VF: vf.VfID, Mode: kind}
	if vf.PciAddress != "" {
		s.Disturbs = []string{vf.PciAddress}
	}
	return s
}

// HasNetdev reports whether a VF on a driver of the kernel's has an interface somewhere:
// all have but those that are, or are to be, a character device.
func HasNetdev(vf *v1.VirtualFunction) bool {
	return vf.VdpaType == v1.VdpaTypeVirtio || vf.VdpaType == "" && vf.Driver != VirtioVDPADriver
}
