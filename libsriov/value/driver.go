// SPDX-License-Identifier: Apache-2.0

package value

import "strings"

// DriverKind is what becomes of a function that a driver is bound to.
type DriverKind uint8

// Kinds of drivers.
const (
	NoDriver DriverKind = iota // nothing drives the function
	Kernel                     // the kernel does: there is a network interface, an RDMA or vDPA device
	VFIO                       // a program does, through /dev/vfio (https://docs.kernel.org/driver-api/vfio.html)
	UIO                        // a program does, through /dev/uioN (https://docs.kernel.org/driver-api/uio-howto.html)
	Stub                       // nobody may: the driver keeps the function for a virtual machine
)

// DriverKindOf tells the kind of a driver from its name, as the link "driver" of
// a function in sysfs ends; "" is none. Beside vfio-pci there are drivers that
// add migration for one vendor's functions, all named *_vfio_pci
// (drivers/vfio/pci in the kernel), and beside uio_pci_generic those that are
// built elsewhere, as DPDK's igb_uio.
func DriverKindOf(driver string) DriverKind {
	name := strings.ReplaceAll(driver, "-", "_")
	switch {
	case name == "":
		return NoDriver
	case name == "vfio_pci" || strings.HasSuffix(name, "_vfio_pci"):
		return VFIO
	case strings.HasPrefix(name, "uio_") || strings.HasSuffix(name, "_uio"):
		return UIO
	case name == "pci_stub" || name == "pciback" || name == "xen_pciback":
		return Stub
	}
	return Kernel
}

// Userspace reports whether a program drives the function instead of the kernel.
func (k DriverKind) Userspace() bool { return k == VFIO || k == UIO }

func (k DriverKind) String() string {
	return [...]string{"none", "kernel", "vfio", "uio", "stub"}[min(k, Stub)]
}
