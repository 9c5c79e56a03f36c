// SPDX-License-Identifier: Apache-2.0

// Package libsriov knows the PCI functions of a host that carry network or
// accelerator traffic: physical functions (PFs), their virtual functions (VFs),
// and functions without SR-IOV. It reads and writes sysfs
// (https://docs.kernel.org/PCI/pci-iov-howto.html,
// https://docs.kernel.org/admin-guide/abi.html) and nothing else; the packages
// below it speak netlink: link (netdevs and the administrative state of VFs),
// devlink, rdma, vdpa, event.
//
// A [Host] is bound to a root directory: "/" on a node, "/host" in a container
// that mounts the node there, a captured tree in a test. Reading needs no
// privilege. Writing (VF counts, drivers) needs root and a writable sysfs.
//
// One broken device never hides another: [Host.Snapshot] returns what it could
// read together with a joined error that holds a [*DeviceError] for each device
// it could not. Errors wrap the sentinels of this package and the kernel's
// errno; a missing attribute is a zero value documented at the field, never an
// error.
//
// The package keeps no state, starts no goroutine that outlives a call (one
// exception, [Host.SetNumVFs], says so), and logs nothing.
package libsriov
