// SPDX-License-Identifier: Apache-2.0

// Package rdma speaks RDMA netlink: how RDMA devices share network namespaces
// (https://man7.org/linux/man-pages/man8/rdma-system.8.html).
// What sysfs tells of RDMA devices is in package libsriov.
package rdma

import (
	"errors"
)

// Mode is how RDMA devices belong to network namespaces.
type Mode string

// Modes of the RDMA subsystem.
const (
	Shared    Mode = "shared"    // every namespace sees every device
	Exclusive Mode = "exclusive" // each device is in one namespace
)

// ErrNotSupported: the kernel has no RDMA subsystem, or it is not loaded.
var ErrNotSupported = errors.New("no RDMA subsystem in this kernel")
