// SPDX-License-Identifier: Apache-2.0

package link

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/sriovkit/sriovkit/libsriov/internal/nl"
	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// AddAddress gives an interface an address with the length of its subnet's
// prefix (RTM_NEWADDR). An IPv6 address with noDAD is usable at once: the kernel
// does not first ask the neighbours whether one of them has it (IFA_F_NODAD).
// The errno is EEXIST if the interface has the address already.
func (c *Conn) AddAddress(index int, a netip.Prefix, noDAD bool) error {
	info := vnl.NewIfAddrmsg(family(a.Addr()))
	info.Index, info.Prefixlen = uint32(index), uint8(a.Bits())
	b := a.Addr().AsSlice()
	req := nl.Request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, info,
		vnl.NewRtAttr(unix.IFA_LOCAL, b), vnl.NewRtAttr(unix.IFA_ADDRESS, b))
	switch {
	case a.Addr().Is4() && a.Bits() < 31: // RFC 3021: a link of two has no broadcast address
		ones := uint32(1)<<(32-a.Bits()) - 1
		req.AddData(vnl.NewRtAttr(unix.IFA_BROADCAST, binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(b)|ones)))
	case a.Addr().Is6() && noDAD:
		info.Flags = unix.IFA_F_NODAD
	}
	if _, err := c.socket.Execute(req); err != nil {
		return fmt.Errorf("add address %s to interface %d: %w", a, index, err)
	}
	return nil
}

// Addresses reads the addresses of an interface, of both families.
func (c *Conn) Addresses(index int) ([]netip.Prefix, error) {
	return c.addresses(index, func(uint8) bool { return true })
}

func (c *Conn) addresses(index int, scope func(uint8) bool) ([]netip.Prefix, error) {
	out, err := c.socket.Execute(nl.Request(unix.RTM_GETADDR, unix.NLM_F_DUMP, vnl.NewIfAddrmsg(unix.AF_UNSPEC)))
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var addresses []netip.Prefix
	for _, m := range out {
		if len(m) < unix.SizeofIfAddrmsg {
			return nil, fmt.Errorf("list addresses: %w", errTooShort)
		}
		info := vnl.DeserializeIfAddrmsg(m)
		if int(info.Index) != index || !scope(info.Scope) {
			continue
		}
		var local, address netip.Addr
		err := nl.Nested(m[unix.SizeofIfAddrmsg:], func(kind uint16, value []byte) {
			switch kind {
			case unix.IFA_LOCAL:
				local, _ = netip.AddrFromSlice(value)
			case unix.IFA_ADDRESS: // the peer's on a point-to-point link, else the same; IPv6 has but this
				address, _ = netip.AddrFromSlice(value)
			}
		})
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		if !local.IsValid() {
			local = address
		}
		addresses = append(addresses, netip.PrefixFrom(local, int(info.Prefixlen)))
	}
	return addresses, nil
}

// GlobalAddresses reads those addresses of an interface that are valid beyond its link
// (RT_SCOPE_UNIVERSE, RT_SCOPE_SITE), which is how an interface in use is recognized.
func (c *Conn) GlobalAddresses(index int) ([]netip.Prefix, error) {
	return c.addresses(index, func(scope uint8) bool { return scope <= unix.RT_SCOPE_SITE })
}

// family is the address family, AF_INET or AF_INET6.
func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
