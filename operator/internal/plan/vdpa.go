// SPDX-License-Identifier: Apache-2.0

package plan

import v1 "github.com/sriovkit/sriovkit/operator/api/v1"

// VirtioVDPADriver is the driver that creates vDPA devices from virtio functions
// (linux/drivers/vdpa/virtio_pci). NICs whose own driver creates them, such as mlx5_core in
// switchdev mode, do not need it.
const VirtioVDPADriver = "vp-vdpa"

// serves reports whether a VF has the driver and the vDPA device that its group asks for.
func serves(g v1.VfGroup, vf *v1.VirtualFunction) bool {
	if g.VdpaType != "" {
		return vf.VdpaType == g.VdpaType
	}
	return DriverFits(g.DeviceType, vf.Driver) && vf.Driver != VirtioVDPADriver && !keepsVDPA(g, vf)
}

// keepsVDPA reports whether a VF has a vDPA device that its group does not ask for and that
// binding a driver would not remove.
func keepsVDPA(g v1.VfGroup, vf *v1.VirtualFunction) bool {
	return g.VdpaType == "" && g.DeviceType != v1.DeviceTypeVFIO && vf.VdpaType != ""
}

// endsVDPA reports whether a VF's vDPA device, or its being bound to VirtioVDPADriver, is
// left over from an earlier group and has to go. A device that no earlier group asked for
// may be an administrator's, and stays. ours says that it has a name that the daemon gives:
// the record of an earlier group is gone if the device could not be removed at once.
func endsVDPA(g v1.VfGroup, inGroup bool, vf *v1.VirtualFunction, ours bool, before v1.Interface) bool {
	if g.VdpaType != "" || g.DeviceType == v1.DeviceTypeVFIO {
		return false // OpVDPA changes the type; binding vfio-pci removes the device
	}
	if old, had := GroupOf(before, vf.VfID); had && old.VdpaType != "" {
		return vf.VdpaType != "" || vf.Driver == VirtioVDPADriver
	}
	return inGroup && (vf.Driver == VirtioVDPADriver || ours && vf.VdpaType != "")
}

// vdpaStep returns the step that creates or changes a VF's vDPA device; with an empty kind,
// the one that removes it.
func vdpaStep(vf *v1.VirtualFunction, kind string) Step {
	s := Step{Op: OpVDPA, VF: vf.VfID, Mode: kind}
	if vf.PciAddress != "" {
		s.Disturbs = []string{vf.PciAddress}
	}
	return s
}

// HasNetdev reports whether a VF that has a kernel driver has a netdev, in whatever network
// namespace. One that is offered as a vhost-vdpa character device, or is being made one,
// has none.
func HasNetdev(vf *v1.VirtualFunction) bool {
	return vf.VdpaType == v1.VdpaTypeVirtio || vf.VdpaType == "" && vf.Driver != VirtioVDPADriver
}
