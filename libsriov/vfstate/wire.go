// SPDX-License-Identifier: Apache-2.0

package vfstate

import (
	"encoding/binary"
	"net"
	"slices"
)

// Attributes of IFLA_VF_INFO, linux/if_link.h. Each is a C struct whose first
// member is the index of the VF.
const (
	iflaMAC        = 1
	iflaVLAN       = 2
	iflaSpoofCheck = 4
	iflaLinkState  = 5
	iflaRate       = 6
	iflaQueryRSS   = 7
	iflaTrust      = 9
	iflaNodeGUID   = 10
	iflaPortGUID   = 11
	iflaVLANList   = 12

	iflaVLANInfo = 1      // in iflaVLANList
	nested       = 0x8000 // NLA_F_NESTED
	header       = 4      // bytes of struct nlattr
)

// wire is how netlink has a field.
type wire[T any] struct {
	encode func(vf uint32, v T) (attr uint16, payload []byte)
	// decode reads an attribute if it is this field's; have is what an earlier
	// one said.
	decode func(attr uint16, payload []byte, have T) (v T, ok bool)
}

// Encode calls emit with the netlink attribute of each field that is set, in the
// order of [State.Split].
func (s State) Encode(vf int, emit func(attr uint16, payload []byte)) {
	for _, a := range attributes {
		if a.isSet(s) {
			emit(a.encode(uint32(vf), s))
		}
	}
}

// Decode takes one netlink attribute of a VF into the state, and ignores those
// that belong to no field. With IFLA_VF_MAC, which the kernel always sends, it
// returns the index of the VF, with any other -1.
func (s *State) Decode(attr uint16, payload []byte) (vf int) {
	if len(payload) < 8 { // nests of no interest
		return -1
	}
	for _, a := range attributes {
		a.decode(attr, payload, s)
	}
	if attr == iflaMAC {
		return int(word(payload, 0))
	}
	return -1
}

// word is the i-th 32-bit member of a C struct.
func word(b []byte, i int) uint32 { return binary.NativeEndian.Uint32(b[4*i:]) }

// words lays 32-bit members out as a C struct.
func words(members ...uint32) []byte {
	b := make([]byte, 0, 4*len(members)+8)
	for _, m := range members {
		b = binary.NativeEndian.AppendUint32(b, m)
	}
	return b
}

// macWire is struct ifla_vf_mac: 32 bytes, cut to an Ethernet address unless what
// follows is used, as InfiniBand's 20 bytes are.
var macWire = wire[net.HardwareAddr]{
	encode: func(vf uint32, m net.HardwareAddr) (uint16, []byte) {
		b := make([]byte, 4+32)
		binary.NativeEndian.PutUint32(b, vf)
		copy(b[4:], m)
		return iflaMAC, b
	},
	decode: func(attr uint16, b []byte, _ net.HardwareAddr) (net.HardwareAddr, bool) {
		if attr != iflaMAC || len(b) < 4+6 {
			return nil, false
		}
		m, n := b[4:], 6
		if len(m) >= 20 && slices.ContainsFunc(m[6:20], func(x byte) bool { return x != 0 }) {
			n = 20
		}
		return slices.Clone(m[:n]), true
	},
}

// vlanWire is IFLA_VF_VLAN, which every driver takes, and for other protocols
// IFLA_VF_VLAN_LIST, whose answer says more and wins. Of the list the kernel
// never sends more than one tag.
var vlanWire = wire[*VLAN]{
	encode: func(vf uint32, v *VLAN) (uint16, []byte) {
		b := words(vf, uint32(v.ID), uint32(v.QoS))
		if v.Proto == 0 || v.Proto == Proto8021Q {
			return iflaVLAN, b
		}
		b = append(binary.BigEndian.AppendUint16(b, uint16(v.Proto)), 0, 0) // the C struct ends on a word
		list := binary.NativeEndian.AppendUint16(nil, uint16(header+len(b)))
		list = binary.NativeEndian.AppendUint16(list, iflaVLANInfo)
		return iflaVLANList | nested, append(list, b...)
	},
	decode: func(attr uint16, b []byte, have *VLAN) (*VLAN, bool) {
		switch {
		case attr == iflaVLAN && len(b) >= 12 && have == nil:
			return &VLAN{ID: uint16(word(b, 1)), QoS: uint8(word(b, 2)), Proto: Proto8021Q}, true
		case attr == iflaVLANList && len(b) >= header+14 && binary.NativeEndian.Uint16(b[2:]) == iflaVLANInfo:
			b = b[header:]
			return &VLAN{ID: uint16(word(b, 1)), QoS: uint8(word(b, 2)), Proto: VLANProto(binary.BigEndian.Uint16(b[12:]))}, true
		}
		return nil, false
	},
}

var rateWire = wire[*Rate]{
	encode: func(vf uint32, r *Rate) (uint16, []byte) { return iflaRate, words(vf, r.Min, r.Max) },
	decode: func(attr uint16, b []byte, _ *Rate) (*Rate, bool) {
		if attr != iflaRate || len(b) < 12 {
			return nil, false
		}
		return &Rate{Min: word(b, 1), Max: word(b, 2)}, true
	},
}

// switchWire is 0 or 1. The kernel presets the answer to all ones, which stays
// where the driver does not report the setting.
func switchWire(is uint16) wire[Switch] {
	return wire[Switch]{
		encode: func(vf uint32, s Switch) (uint16, []byte) { return is, words(vf, uint32(s-Off)) },
		decode: func(attr uint16, b []byte, _ Switch) (Switch, bool) {
			if attr != is {
				return Unset, false
			}
			switch word(b, 1) {
			case 0:
				return Off, true
			case 1:
				return On, true
			}
			return Unset, true
		},
	}
}

var linkStateWire = wire[LinkState]{
	encode: func(vf uint32, s LinkState) (uint16, []byte) { return iflaLinkState, words(vf, uint32(s-LinkAuto)) },
	decode: func(attr uint16, b []byte, _ LinkState) (LinkState, bool) {
		if attr != iflaLinkState || word(b, 1) > uint32(LinkDisable-LinkAuto) {
			return LinkUnset, false
		}
		return LinkAuto + LinkState(word(b, 1)), true
	},
}

// guidWire is struct ifla_vf_guid, whose 64-bit member is aligned to 8.
func guidWire(is uint16) wire[*GUID] {
	return wire[*GUID]{
		encode: func(vf uint32, g *GUID) (uint16, []byte) {
			return is, binary.NativeEndian.AppendUint64(words(vf, 0), uint64(*g))
		},
		decode: func(attr uint16, b []byte, _ *GUID) (*GUID, bool) {
			if attr != is || len(b) < 16 {
				return nil, false
			}
			return new(GUID(binary.NativeEndian.Uint64(b[8:]))), true
		},
	}
}
