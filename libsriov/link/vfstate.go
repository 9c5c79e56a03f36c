package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"

	"github.com/sriovkit/sriovkit/libsriov/internal/nl"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrNoVF: the PF's interface does not report a VF of that index.
var ErrNoVF = errors.New("PF reports no such VF")

// VFStates reads what a PF enforces for each of its VFs, by VF index. Answers
// of any size are read whole; statistics are not asked for.
func (c *Conn) VFStates(pfIndex int) (map[int]vfstate.State, error) {
	info := vnl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index = int32(pfIndex)
	out, err := c.socket.Execute(nl.Request(unix.RTM_GETLINK, 0, info, extMask(filterVF|filterSkipStats)))
	if errors.Is(err, unix.ENODEV) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("VF state of interface %d: %w", pfIndex, err)
	}
	if len(out) != 1 {
		return nil, fmt.Errorf("VF state of interface %d: kernel sent %d answers", pfIndex, len(out))
	}
	states, err := parseVFStates(out[0])
	if err != nil {
		return nil, fmt.Errorf("VF state of interface %d: %w", pfIndex, err)
	}
	return states, nil
}

// VFState is VFStates for one VF; ErrNoVF if it is not among them. The kernel
// has no request for a single one.
func (c *Conn) VFState(pfIndex, vf int) (vfstate.State, error) {
	states, err := c.VFStates(pfIndex)
	if err != nil {
		return vfstate.State{}, err
	}
	s, ok := states[vf]
	if !ok {
		return s, fmt.Errorf("VF %d of interface %d, which has %d: %w", vf, pfIndex, len(states), ErrNoVF)
	}
	return s, nil
}

// parseVFStates finds IFLA_VFINFO_LIST in a RTM_NEWLINK message.
func parseVFStates(m []byte) (map[int]vfstate.State, error) {
	if len(m) < unix.SizeofIfInfomsg {
		return nil, errTooShort
	}
	states := map[int]vfstate.State{}
	var broken error
	one := func(kind uint16, info []byte) {
		if kind != vnl.IFLA_VF_INFO {
			return
		}
		vf, s, err := parseVF(info)
		if err != nil {
			broken = errors.Join(broken, err)
			return
		}
		states[vf] = s
	}
	err := nl.Nested(m[unix.SizeofIfInfomsg:], func(kind uint16, list []byte) {
		if kind == unix.IFLA_VFINFO_LIST {
			err := nl.Nested(list, one)
			broken = errors.Join(broken, err)
		}
	})
	return states, errors.Join(err, broken)
}

// parseVF reads one IFLA_VF_INFO. Each attribute is a C struct whose first
// member is the VF index (linux/if_link.h: ifla_vf_mac and the like).
func parseVF(b []byte) (vf int, s vfstate.State, err error) {
	vf = -1
	err = nl.Nested(b, func(kind uint16, v []byte) {
		if len(v) < 8 {
			return // IFLA_VF_STATS and other nests of no interest
		}
		switch kind {
		case vnl.IFLA_VF_MAC:
			if len(v) < 4+6 {
				return
			}
			vf = int(word(v, 0))
			s.MAC = hardwareAddr(v[4:])
		case vnl.IFLA_VF_VLAN:
			if len(v) >= 12 && s.VLAN == nil { // IFLA_VF_VLAN_LIST says more
				s.VLAN = &vfstate.VLAN{ID: uint16(word(v, 1)), QoS: uint8(word(v, 2)), Proto: vfstate.Proto8021Q}
			}
		case vnl.IFLA_VF_VLAN_LIST:
			if vlan := parseVLANList(v); vlan != nil {
				s.VLAN = vlan
			}
		case vnl.IFLA_VF_RATE:
			if len(v) >= 12 {
				s.Rate = &vfstate.Rate{Min: word(v, 1), Max: word(v, 2)}
			}
		case vnl.IFLA_VF_SPOOFCHK:
			s.SpoofCheck = reportedSwitch(word(v, 1))
		case vnl.IFLA_VF_TRUST:
			s.Trust = reportedSwitch(word(v, 1))
		case vnl.IFLA_VF_RSS_QUERY_EN:
			s.QueryRSS = reportedSwitch(word(v, 1))
		case vnl.IFLA_VF_LINK_STATE:
			if n := word(v, 1); n <= vnl.IFLA_VF_LINK_STATE_MAX {
				s.LinkState = vfstate.LinkState(n + 1)
			}
		case vnl.IFLA_VF_IB_NODE_GUID:
			s.NodeGUID = guid(v)
		case vnl.IFLA_VF_IB_PORT_GUID:
			s.PortGUID = guid(v)
		}
	})
	if err == nil && vf < 0 {
		err = errors.New("VF without an index")
	}
	return vf, s, err
}

// word is the i-th 32-bit member of a C struct.
func word(b []byte, i int) uint32 { return binary.NativeEndian.Uint32(b[4*i:]) }

// reportedSwitch reads a setting that the kernel presets to all ones for
// drivers that do not report it.
func reportedSwitch(n uint32) vfstate.Switch {
	switch n {
	case 0:
		return vfstate.Off
	case 1:
		return vfstate.On
	}
	return vfstate.Unset
}

// hardwareAddr cuts the 32 bytes of struct ifla_vf_mac to an Ethernet address,
// unless what follows is used, as InfiniBand's 20 bytes are.
func hardwareAddr(b []byte) net.HardwareAddr {
	n := 6
	if len(b) >= 20 && slices.ContainsFunc(b[6:20], func(x byte) bool { return x != 0 }) {
		n = 20
	}
	return net.HardwareAddr(slices.Clone(b[:n]))
}

// parseVLANList reads the first tag of the list; the kernel never sends more.
func parseVLANList(b []byte) (vlan *vfstate.VLAN) {
	_ = nl.Nested(b, func(kind uint16, v []byte) {
		if kind == vnl.IFLA_VF_VLAN_INFO && len(v) >= 14 && vlan == nil {
			vlan = &vfstate.VLAN{ID: uint16(word(v, 1)), QoS: uint8(word(v, 2)), Proto: vfstate.VLANProto(binary.BigEndian.Uint16(v[12:]))}
		}
	})
	return vlan
}

// guid reads struct ifla_vf_guid, whose 64-bit member is aligned to 8.
func guid(v []byte) *vfstate.GUID {
	if len(v) < 16 {
		return nil
	}
	return new(vfstate.GUID(binary.NativeEndian.Uint64(v[8:])))
}

// AttributeError tells which attribute of a VF the kernel refused.
type AttributeError struct {
	VF          int
	Attr, Value string // e.g. vfstate.AttrTrust, "on"
	Err         error  // wraps the errno and carries the extended acknowledgement
}

func (e *AttributeError) Error() string {
	msg := fmt.Sprintf("set %s %s on VF %d: %v", e.Attr, e.Value, e.VF, e.Err)
	if errors.Is(e.Err, syscall.EOPNOTSUPP) {
		msg += "; the PF's driver has no such setting"
	}
	return msg
}

func (e *AttributeError) Unwrap() error { return e.Err }

// SetVF writes the fields of a state that are set, all in one request; no field
// set is no request. The error is an *AttributeError that names the first field
// the driver refused; fields before it, in the order of [vfstate.State.Split],
// are written, those behind it are not.
func (c *Conn) SetVF(pfIndex, vf int, s vfstate.State) error {
	parts := s.Split()
	if len(parts) == 0 {
		return nil
	}
	err := c.setVF(pfIndex, vf, s)
	if err == nil || len(parts) == 1 {
		return attributeError(vf, parts[0], err)
	}
	// The kernel stops at the field that fails but does not say which one it
	// is. Writing them one by one is idempotent and finds it.
	for _, p := range parts {
		if err := c.setVF(pfIndex, vf, p.State); err != nil {
			return attributeError(vf, p, err)
		}
	}
	return nil // each was accepted by itself: the first refusal was a passing one
}

func attributeError(vf int, p vfstate.Part, err error) error {
	if err == nil {
		return nil
	}
	return &AttributeError{VF: vf, Attr: p.Attr, Value: p.Value, Err: err}
}

func (c *Conn) setVF(pfIndex, vf int, s vfstate.State) error {
	info := vnl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index = int32(pfIndex)
	list := vnl.NewRtAttr(unix.IFLA_VFINFO_LIST|unix.NLA_F_NESTED, nil)
	one := list.AddRtAttr(vnl.IFLA_VF_INFO|unix.NLA_F_NESTED, nil)
	index := uint32(vf)
	if s.MAC != nil {
		mac := make([]byte, 4+32)
		binary.NativeEndian.PutUint32(mac, index)
		copy(mac[4:], s.MAC)
		one.AddRtAttr(vnl.IFLA_VF_MAC, mac)
	}
	if v := s.VLAN; v != nil {
		if v.Proto == 0 || v.Proto == vfstate.Proto8021Q {
			one.AddRtAttr(vnl.IFLA_VF_VLAN, words(index, uint32(v.ID), uint32(v.QoS)))
		} else {
			tag := binary.BigEndian.AppendUint16(words(index, uint32(v.ID), uint32(v.QoS)), uint16(v.Proto))
			tags := one.AddRtAttr(vnl.IFLA_VF_VLAN_LIST|unix.NLA_F_NESTED, nil)
			tags.AddRtAttr(vnl.IFLA_VF_VLAN_INFO, append(tag, 0, 0)) // the C struct ends on a word
		}
	}
	if s.Rate != nil {
		one.AddRtAttr(vnl.IFLA_VF_RATE, words(index, s.Rate.Min, s.Rate.Max))
	}
	for attr, sw := range map[int]vfstate.Switch{
		vnl.IFLA_VF_SPOOFCHK: s.SpoofCheck, vnl.IFLA_VF_TRUST: s.Trust, vnl.IFLA_VF_RSS_QUERY_EN: s.QueryRSS,
	} {
		if sw != vfstate.Unset {
			one.AddRtAttr(attr, words(index, uint32(sw-vfstate.Off)))
		}
	}
	if s.LinkState != vfstate.LinkUnset {
		one.AddRtAttr(vnl.IFLA_VF_LINK_STATE, words(index, uint32(s.LinkState-vfstate.LinkAuto)))
	}
	for attr, g := range map[int]*vfstate.GUID{vnl.IFLA_VF_IB_NODE_GUID: s.NodeGUID, vnl.IFLA_VF_IB_PORT_GUID: s.PortGUID} {
		if g != nil {
			one.AddRtAttr(attr, binary.NativeEndian.AppendUint64(words(index, 0), uint64(*g)))
		}
	}
	_, err := c.socket.Execute(nl.Request(unix.RTM_SETLINK, 0, info, list))
	return err
}

// words lays 32-bit members out as a C struct.
func words(members ...uint32) []byte {
	var b []byte
	for _, m := range members {
		b = binary.NativeEndian.AppendUint32(b, m)
	}
	return b
}
