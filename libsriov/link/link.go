// SPDX-License-Identifier: Apache-2.0

// Package link speaks rtnetlink about network interfaces and about what a PF
// enforces for its VFs (https://docs.kernel.org/networking/rtnetlink.html).
//
// A [Conn] is one socket in one network namespace. Interfaces are addressed by
// index or found by the device they belong to, never by a name that something
// else may take meanwhile. Reading needs no privilege; everything else needs
// CAP_NET_ADMIN in the namespace, VF state and moves in the initial one.
//
// Errors carry the kernel's errno (errors.Is(err, unix.EEXIST)) and, where the
// kernel or the driver explained itself, its text.
package link

import (
	"fmt"
	"net"
	"os"
	"path"
	"syscall"

	"github.com/sriovkit/sriovkit/libsriov"
)

// ErrNotFound: no such interface in this namespace. Its errno is ENODEV.
var ErrNotFound = fmt.Errorf("no such network interface: %w", syscall.ENODEV)

// Link is a network interface as one namespace shows it.
type Link struct {
	Index     int               // unique in its namespace; may change in a move
	Name      string            // IFLA_IFNAME
	AltNames  []string          // IFLA_ALT_IFNAME
	Alias     string            // IFLA_IFALIAS: free text
	Kind      string            // IFLA_INFO_KIND: "veth", "bridge", …; "" for hardware
	Type      libsriov.LinkType // ifi_type
	Flags     uint32            // IFF_*
	OperState uint8             // IFLA_OPERSTATE, RFC 2863; 6 is up
	Dormant   bool              // IFLA_LINKMODE: it waits for a program to declare it up
	MTU       int               // IFLA_MTU, bytes
	MAC       net.HardwareAddr  // IFLA_ADDRESS
	Broadcast net.HardwareAddr  // IFLA_BROADCAST: where frames to all go
	PermMAC   net.HardwareAddr  // IFLA_PERM_ADDRESS; nil if not told. igbvf lets it follow MAC
	Parent    string            // IFLA_PARENT_DEV_NAME: the device it belongs to, e.g. a PCI address; since Linux 5.14
	ParentBus string            // IFLA_PARENT_DEV_BUS_NAME
	Master    int               // IFLA_MASTER: index of the bridge or bond it is in; 0 is none
	Lower     int               // IFLA_LINK: index of the interface it stands on; 0 is none
	NetNSID   *int32            // IFLA_LINK_NETNSID: where Lower is, if elsewhere
	SwitchID  string            // IFLA_PHYS_SWITCH_ID in hexadecimal; "" outside switchdev
	PortName  string            // IFLA_PHYS_PORT_NAME
	TxQLen    uint32            // IFLA_TXQLEN: packets its queue holds
	Group     uint32            // IFLA_GROUP: the administrator's number for a set of interfaces
	XDP       uint8             // IFLA_XDP_ATTACHED: where a program is attached, XDP_ATTACHED_*; 0 is none
	NumVFs    int               // IFLA_NUM_VF: how many VFs it enforces state for
}

// Flags of an interface (linux/if.h).
const (
	flagUp      = 0x1     // IFF_UP
	flagCarrier = 0x10000 // IFF_LOWER_UP
)

// Up reports whether the interface is set up.
func (l Link) Up() bool { return l.Flags&flagUp != 0 }

// Carrier reports whether the interface has a link partner.
func (l Link) Carrier() bool { return l.Flags&flagCarrier != 0 }

// BelongsTo reports whether the interface is a function's, in whatever namespace it is:
// its parent device is the function, or the function's virtio device. Before Linux 5.14
// the kernel does not tell.
func (l Link) BelongsTo(function libsriov.Address) bool {
	name := function.String()
	return l.Parent == name || l.behindVirtio(name)
}

// virtioDevices lists the devices of the virtio bus as links into the device tree, which
// is the same in every network namespace.
const virtioDevices = "/sys/bus/virtio/devices/"

// behindVirtio reports whether the interface belongs to a function through a virtio device:
// virtio_net names that one as the parent, and only sysfs says what it is part of.
func (l Link) behindVirtio(function string) bool {
	if l.ParentBus != "virtio" {
		return false
	}
	target, err := os.Readlink(virtioDevices + l.Parent)
	return err == nil && path.Base(path.Dir(target)) == function
}

// representor reports, by the port name ("pf0vf3", "c1pf0sf88"), whether the interface is a
// switch port that stands for another function.
func (l Link) representor() bool {
	for i := range len(l.PortName) - 1 {
		if l.PortName[i:i+2] == "vf" || l.PortName[i:i+2] == "sf" || l.PortName[i:i+2] == "pf" {
			return true
		}
	}
	return false
}
