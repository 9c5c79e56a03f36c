// SPDX-License-Identifier: Apache-2.0

package link

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/internal/nl"
	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

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
	case unix.IFLA_BROADCAST:
		l.Broadcast = value
	case unix.IFLA_LINKMODE:
		l.Dormant = number(value) != 0
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
