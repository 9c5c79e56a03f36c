// SPDX-License-Identifier: Apache-2.0

package link

import (
	"errors"
	"fmt"
	"os"

	"github.com/sriovkit/sriovkit/libsriov/internal/nl"
	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Set changes an interface in one request. Together with a move, everything
// else is done in the new namespace, where the interface arrives down.
//
// The kernel does the parts in a fixed order (move, MAC, MTU, group, name, alias, broadcast,
// flags, queue length, mode)
// and stops at the first that fails, what came before it stays: see
// [Conn.Move] for a move that is taken back.
func (c *Conn) Set(index int, u Update) error {
	info := vnl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index = int32(index)
	for flag, on := range map[uint32]*bool{
		unix.IFF_UP: u.Up, unix.IFF_PROMISC: u.Promisc, unix.IFF_ALLMULTI: u.AllMulti, unix.IFF_NOARP: u.NoARP, unix.IFF_MULTICAST: u.Multicast,
	} {
		if on != nil {
			info.Change |= flag
			if *on {
				info.Flags |= flag
			}
		}
	}
	req := nl.Request(unix.RTM_SETLINK, 0, info)
	if u.NetNS != nil {
		req.AddData(vnl.NewRtAttr(unix.IFLA_NET_NS_FD, vnl.Uint32Attr(uint32(u.NetNS.Fd()))))
	}
	if u.NewIndex != 0 {
		req.AddData(vnl.NewRtAttr(unix.IFLA_NEW_IFINDEX, vnl.Uint32Attr(uint32(u.NewIndex))))
	}
	if u.Name != "" {
		req.AddData(vnl.NewRtAttr(unix.IFLA_IFNAME, vnl.ZeroTerminated(u.Name)))
	}
	if u.MAC != nil {
		req.AddData(vnl.NewRtAttr(unix.IFLA_ADDRESS, u.MAC))
	}
	if u.MTU != 0 {
		req.AddData(vnl.NewRtAttr(unix.IFLA_MTU, vnl.Uint32Attr(uint32(u.MTU))))
	}
	if u.Alias != nil {
		req.AddData(vnl.NewRtAttr(unix.IFLA_IFALIAS, []byte(*u.Alias)))
	}
	if u.TxQLen != nil {
		req.AddData(vnl.NewRtAttr(unix.IFLA_TXQLEN, vnl.Uint32Attr(*u.TxQLen)))
	}
	if u.Group != nil {
		req.AddData(vnl.NewRtAttr(unix.IFLA_GROUP, vnl.Uint32Attr(*u.Group)))
	}
	if u.Broadcast != nil {
		req.AddData(vnl.NewRtAttr(unix.IFLA_BROADCAST, u.Broadcast))
	}
	if u.Dormant != nil {
		mode := []byte{0} // IF_LINK_MODE_DEFAULT
		if *u.Dormant {
			mode[0] = 1 // IF_LINK_MODE_DORMANT
		}
		req.AddData(vnl.NewRtAttr(unix.IFLA_LINKMODE, mode))
	}
	if _, err := c.socket.Execute(req); err != nil {
		if errors.Is(err, unix.ENODEV) {
			err = errors.Join(ErrNotFound, err)
		}
		return fmt.Errorf("set %s on interface %d: %w", u, index, err)
	}
	return nil
}

// Move sends an interface to another namespace with one request that also does
// the rest of u. to must be a connection in the namespace that u.NetNS is open
// on; there the interface is found by its name, for the kernel changes its index
// if that is taken.
//
// The kernel checks the new name only after the move. When that or any later
// part fails, Move brings the interface back under its old index, name, MAC and
// MTU, and joins an error if even that fails; was is the interface as it is now,
// home the namespace it is in.
func (c *Conn) Move(was Link, home *os.File, to *Conn, u Update) error {
	err := c.Set(was.Index, u)
	if err == nil {
		return nil
	}
	if _, here := c.ByIndex(was.Index); here == nil {
		return err // it never left
	}
	stray, find := to.stray(was)
	if find != nil {
		return errors.Join(err, find)
	}
	back := Update{NetNS: home, NewIndex: was.Index, Name: was.Name, MAC: was.MAC, MTU: was.MTU}
	if was.Up() {
		back.Up = new(true)
	}
	return errors.Join(err, to.Set(stray, back))
}

// SetUp sets the interface that has a name up or down, which saves the caller
// the request that would tell its index.
func (c *Conn) SetUp(name string, up bool) error {
	info := vnl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Change = unix.IFF_UP
	if up {
		info.Flags = unix.IFF_UP
	}
	req := nl.Request(unix.RTM_SETLINK, 0, info, vnl.NewRtAttr(unix.IFLA_IFNAME, vnl.ZeroTerminated(name)))
	if _, err := c.socket.Execute(req); err != nil {
		return fmt.Errorf("set up %t on interface %q: %w", up, name, err)
	}
	return nil
}

// stray finds an interface that arrived without its new name: by the device it
// belongs to or, for one of none, by its old name.
func (c *Conn) stray(was Link) (index int, err error) {
	links, err := c.All()
	if err != nil {
		return 0, err
	}
	for _, l := range links {
		if was.Parent != "" && l.Parent == was.Parent && l.ParentBus == was.ParentBus || was.Parent == "" && l.Name == was.Name {
			return l.Index, nil
		}
	}
	return 0, fmt.Errorf("interface %q left its namespace and did not arrive: %w", was.Name, ErrNotFound)
}

// Delete removes an interface that software made; those of hardware stay, with
// EOPNOTSUPP.
func (c *Conn) Delete(index int) error {
	info := vnl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index = int32(index)
	if _, err := c.socket.Execute(nl.Request(unix.RTM_DELLINK, 0, info)); err != nil {
		return fmt.Errorf("delete interface %d: %w", index, err)
	}
	return nil
}

// DetachXDP takes away the programs that an interface runs for each packet, as
// l.XDP says where. The errno is EBUSY if a process or a pinned link holds one.
func (c *Conn) DetachXDP(l Link) error {
	// The modes XDP_ATTACHED_DRV, _SKB and _HW, 1 to 3, have flags of the same
	// order (linux/if_link.h); XDP_ATTACHED_MULTI, 4, is several of them.
	var errs []error
	for mode, flag := range map[uint8]uint32{1: unix.XDP_FLAGS_DRV_MODE, 2: unix.XDP_FLAGS_SKB_MODE, 3: unix.XDP_FLAGS_HW_MODE} {
		if l.XDP != mode && l.XDP != 4 {
			continue
		}
		if err := c.AttachXDP(l.Index, -1, flag); err != nil && l.XDP != 4 {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// AttachXDP has an interface run the program that fd is open on for each packet;
// -1 takes away the one there is. flags is one of XDP_FLAGS_*_MODE.
func (c *Conn) AttachXDP(index, fd int, flags uint32) error {
	info := vnl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index = int32(index)
	xdp := vnl.NewRtAttr(unix.IFLA_XDP|unix.NLA_F_NESTED, nil)
	xdp.AddRtAttr(vnl.IFLA_XDP_FD, vnl.Uint32Attr(uint32(fd)))
	xdp.AddRtAttr(vnl.IFLA_XDP_FLAGS, vnl.Uint32Attr(flags))
	if _, err := c.socket.Execute(nl.Request(unix.RTM_SETLINK, 0, info, xdp)); err != nil {
		return fmt.Errorf("XDP program %d on interface %d: %w", fd, index, err)
	}
	return nil
}

// AddAltName gives an interface an alternative name (Linux 5.5).
func (c *Conn) AddAltName(index int, name string) error {
	return c.altName(unix.RTM_NEWLINKPROP, unix.NLM_F_CREATE|unix.NLM_F_EXCL, index, name)
}

// DeleteAltName takes an alternative name away.
func (c *Conn) DeleteAltName(index int, name string) error {
	return c.altName(unix.RTM_DELLINKPROP, 0, index, name)
}

func (c *Conn) altName(kind, flags, index int, name string) error {
	info := vnl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index = int32(index)
	list := vnl.NewRtAttr(unix.IFLA_PROP_LIST|unix.NLA_F_NESTED, nil)
	list.AddRtAttr(unix.IFLA_ALT_IFNAME, vnl.ZeroTerminated(name))
	if _, err := c.socket.Execute(nl.Request(kind, flags, info, list)); err != nil {
		return fmt.Errorf("alternative name %q of interface %d: %w", name, index, err)
	}
	return nil
}
