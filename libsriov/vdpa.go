// SPDX-License-Identifier: Apache-2.0

package libsriov

import (
	"fmt"
	"strings"
)

// Drivers on the vDPA bus: who consumes a vDPA device
// (https://docs.kernel.org/driver-api/vdpa.html).
const (
	VDPAVhost  = "vhost_vdpa"  // a process, through a character device
	VDPAVirtio = "virtio_vdpa" // the kernel's virtio drivers, which make a netdev of it
)

// VDPA is a vDPA device.
type VDPA struct {
	Name   string // e.g. "vdpa0"
	Driver string // VDPAVhost, VDPAVirtio or "" if bound to neither
	Node   string // character device on the host, e.g. "/dev/vhost-vdpa-0"; "" unless VDPAVhost
	Netdev string // interface in this namespace; "" unless VDPAVirtio
}

// VDPA reads one vDPA device.
func (h *Host) VDPA(name string) (VDPA, error) {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return VDPA{}, fmt.Errorf("%q is not a device name: %w", name, ErrNoDevice)
	}
	dir := vdpaBus + "/" + name
	children, err := h.fs.Names(dir)
	if err != nil {
		return VDPA{}, err
	}
	if len(children) == 0 {
		return VDPA{}, fmt.Errorf("vDPA device %q: %w", name, ErrNoDevice)
	}
	v := VDPA{Name: name}
	if v.Driver, _, err = h.fs.LinkBase(dir + "/driver"); err != nil {
		return VDPA{}, err
	}
	for _, child := range children {
		if isNumbered(child, "vhost-vdpa-") {
			v.Node = "/dev/" + child
		}
	}
	if v.Driver == VDPAVirtio {
		v.Netdev, err = h.vdpaNetdev(dir)
	}
	return v, err
}

// vdpaNetdev finds the interface of a vDPA device that virtio_vdpa drives. Its virtio
// device hangs below whatever does the DMA: the vDPA device for a simulated one, the
// function it is made of for one in hardware.
func (h *Host) vdpaNetdev(dir string) (string, error) {
	for _, parent := range []string{dir, dir + "/.."} {
		children, err := h.fs.Names(parent)
		if err != nil {
			return "", err
		}
		for _, child := range children {
			if !isNumbered(child, "virtio") {
				continue
			}
			netdevs, err := h.fs.Names(parent + "/" + child + "/net")
			if err != nil || len(netdevs) > 0 {
				return first(netdevs), err
			}
		}
	}
	return "", nil
}

func first(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[0]
}
