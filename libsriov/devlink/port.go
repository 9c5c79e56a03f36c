// SPDX-License-Identifier: Apache-2.0

package devlink

// Flavour is what a switch port stands for (enum devlink_port_flavour in
// linux/devlink.h).
type Flavour uint16

// Flavours of interest here.
const (
	Physical Flavour = 0 // goes to the wire
	PCIPF    Flavour = 3 // represents a PF
	PCIVF    Flavour = 4 // represents a VF
	PCISF    Flavour = 7 // represents a sub-function
)

// Port is a port of an embedded switch.
type Port struct {
	Device  Device
	Index   uint32
	Flavour Flavour
	PF      uint16 // number of the PF, of PCIPF, PCIVF and PCISF
	VF      uint16 // index of the VF, of PCIVF
	SF      uint32 // number of the sub-function, of PCISF
	Netdev  string // name in this namespace; "" if it has none
	IfIndex int
	RDMA    string // RDMA device; "" if none
}
