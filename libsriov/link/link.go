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
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"syscall"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/internal/nl"
	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrNotFound: no such interface in this namespace. Its errno is ENODEV.
var ErrNotFound = fmt.Errorf("no such network interface: %w", syscall.ENODEV)

// Conn is a rtnetlink socket. It is not for use by several goroutines at once.
type Conn struct {
	socket *nl.Socket
}

// Open opens a connection in the namespace that ns is open on, or in the
// calling process's own if ns is nil. The connection stays in it.
func Open(ns *os.File) (*Conn, error) {
	s, err := nl.Open(unix.NETLINK_ROUTE, ns)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return &Conn{socket: s}, nil
}

// Close closes the connection.
func (c *Conn) Close() error { return c.socket.Close() }

// Requests is how many requests the connection has sent.
func (c *Conn) Requests() int { return c.socket.Requests() }

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
	MTU       int               // IFLA_MTU, bytes
	MAC       net.HardwareAddr  // IFLA_ADDRESS
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

// Up reports whether the interface is set up.
func (l Link) Up() bool { return l.Flags&unix.IFF_UP != 0 }

// Carrier reports whether the interface has a link partner.
func (l Link) Carrier() bool { return l.Flags&unix.IFF_LOWER_UP != 0 }

// Of the extended attributes that a RTM_GETLINK may ask for, these two
// (linux/rtnetlink.h). Without the second the kernel has the driver collect
// statistics of every VF, 1 to 2 ms each on some hardware.
const (
	filterVF        = 1 << 0
	filterSkipStats = 1 << 3
)

func extMask(mask uint32) *vnl.RtAttr {
	return vnl.NewRtAttr(unix.IFLA_EXT_MASK, vnl.Uint32Attr(mask))
}

// ByIndex reads one interface.
func (c *Conn) ByIndex(index int) (Link, error) {
	info := vnl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index = int32(index)
	l, err := c.one(nl.Request(unix.RTM_GETLINK, 0, info, extMask(filterSkipStats)))
	if err != nil {
		return Link{}, fmt.Errorf("interface %d: %w", index, err)
	}
	return l, nil
}

// ByName reads the interface that has a name or, since Linux 5.5, an
// alternative name.
func (c *Conn) ByName(name string) (Link, error) {
	attr := unix.IFLA_IFNAME
	if len(name) >= unix.IFNAMSIZ {
		attr = unix.IFLA_ALT_IFNAME
	}
	l, err := c.one(nl.Request(unix.RTM_GETLINK, 0, vnl.NewIfInfomsg(unix.AF_UNSPEC),
		extMask(filterSkipStats), vnl.NewRtAttr(attr, vnl.ZeroTerminated(name))))
	if err != nil {
		return Link{}, fmt.Errorf("interface %q: %w", name, err)
	}
	return l, nil
}

func (c *Conn) one(req *vnl.NetlinkRequest) (Link, error) {
	out, err := c.socket.Execute(req)
	switch {
	case errors.Is(err, unix.ENODEV):
		return Link{}, ErrNotFound
	case err != nil:
		return Link{}, err
	case len(out) != 1:
		return Link{}, fmt.Errorf("kernel sent %d answers for one interface", len(out))
	}
	return Parse(out[0])
}

// All reads every interface of the namespace.
func (c *Conn) All() ([]Link, error) {
	out, err := c.socket.Execute(nl.Request(unix.RTM_GETLINK, unix.NLM_F_DUMP,
		vnl.NewIfInfomsg(unix.AF_UNSPEC), extMask(filterSkipStats)))
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	links := make([]Link, 0, len(out))
	for _, m := range out {
		l, err := Parse(m)
		if err != nil {
			return nil, fmt.Errorf("list interfaces: %w", err)
		}
		links = append(links, l)
	}
	return links, nil
}

// ByParent reads the interface that belongs to a device, whatever its name is
// now. Of several, as on a PF in switchdev mode, it is the one without a
// phys_port_name of a representor; ErrNotFound if there is none here.
func (c *Conn) ByParent(device libsriov.Address) (Link, error) {
	links, err := c.All()
	if err != nil {
		return Link{}, err
	}
	found := Link{}
	for _, l := range links {
		if !l.BelongsTo(device) || l.representor() {
			continue
		}
		if found.Index == 0 || l.Index < found.Index {
			found = l
		}
	}
	if found.Index == 0 {
		return Link{}, fmt.Errorf("interface of %s: %w", device, ErrNotFound)
	}
	return found, nil
}

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

// behindVirtio tells that the interface belongs to a function through a virtio device:
// virtio_net names that one as the parent, and only sysfs says what it is part of.
func (l Link) behindVirtio(function string) bool {
	if l.ParentBus != "virtio" {
		return false
	}
	target, err := os.Readlink(virtioDevices + l.Parent)
	return err == nil && path.Base(path.Dir(target)) == function
}

// representor tells from the port name ("pf0vf3", "c1pf0sf88") that the
// interface is a switch port that stands for another function.
func (l Link) representor() bool {
	for i := range len(l.PortName) - 1 {
		if l.PortName[i:i+2] == "vf" || l.PortName[i:i+2] == "sf" || l.PortName[i:i+2] == "pf" {
			return true
		}
	}
	return false
}

// Parse reads the payload of a RTM_NEWLINK message.
func Parse(m []byte) (Link, error) {
	if len(m) < unix.SizeofIfInfomsg {
		return Link{}, errTooShort
	}
	head := vnl.DeserializeIfInfomsg(m)
	l := Link{Index: int(head.Index), Type: libsriov.LinkType(head.Type), Flags: head.Flags}
	var broken error
	err := nl.Nested(m[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) {
		broken = errors.Join(broken, l.take(kind, value))
	})
	if err := errors.Join(err, broken); err != nil {
		return Link{}, fmt.Errorf("interface %d: %w", l.Index, err)
	}
	return l, nil
}

var errTooShort = errors.New("link message is too short")

// take reads one attribute.
func (l *Link) take(kind uint16, value []byte) error {
	switch kind {
	case unix.IFLA_IFNAME:
		l.Name = unix.ByteSliceToString(value)
	case unix.IFLA_IFALIAS:
		l.Alias = unix.ByteSliceToString(value)
	case unix.IFLA_MTU:
		l.MTU = int(number(value))
	case unix.IFLA_ADDRESS:
		l.MAC = value
	case unix.IFLA_PERM_ADDRESS:
		l.PermMAC = value
	case unix.IFLA_OPERSTATE:
		l.OperState = uint8(number(value))
	case unix.IFLA_MASTER:
		l.Master = int(number(value))
	case unix.IFLA_LINK:
		l.Lower = int(number(value))
	case unix.IFLA_LINK_NETNSID:
		l.NetNSID = new(int32(number(value)))
	case unix.IFLA_NUM_VF:
		l.NumVFs = int(number(value))
	case unix.IFLA_TXQLEN:
		l.TxQLen = number(value)
	case unix.IFLA_GROUP:
		l.Group = number(value)
	case unix.IFLA_XDP:
		return nl.Nested(value, func(kind uint16, value []byte) {
			if kind == vnl.IFLA_XDP_ATTACHED {
				l.XDP = uint8(number(value))
			}
		})
	case unix.IFLA_PARENT_DEV_NAME:
		l.Parent = unix.ByteSliceToString(value)
	case unix.IFLA_PARENT_DEV_BUS_NAME:
		l.ParentBus = unix.ByteSliceToString(value)
	case unix.IFLA_PHYS_SWITCH_ID:
		l.SwitchID = hex.EncodeToString(value)
	case unix.IFLA_PHYS_PORT_NAME:
		l.PortName = unix.ByteSliceToString(value)
	case unix.IFLA_LINKINFO:
		return nl.Nested(value, func(kind uint16, value []byte) {
			if kind == vnl.IFLA_INFO_KIND {
				l.Kind = unix.ByteSliceToString(value)
			}
		})
	case unix.IFLA_PROP_LIST:
		return nl.Nested(value, func(kind uint16, value []byte) {
			if kind == unix.IFLA_ALT_IFNAME {
				l.AltNames = append(l.AltNames, unix.ByteSliceToString(value))
			}
		})
	}
	return nil
}

// number reads an integer of 1, 2 or 4 bytes; 0 for any other length.
func number(b []byte) uint32 {
	switch len(b) {
	case 1:
		return uint32(b[0])
	case 2:
		return uint32(binary.NativeEndian.Uint16(b))
	case 4:
		return binary.NativeEndian.Uint32(b)
	}
	return 0
}
