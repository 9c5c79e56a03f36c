// Package vfstate holds what a PF enforces for one VF, as values: nothing here
// touches the kernel. Package link reads and writes it (rtnetlink,
// IFLA_VF_INFO, https://docs.kernel.org/networking/rtnetlink.html and
// linux/if_link.h).
//
// One type serves three purposes. As a reading, a field that is not set is one
// the driver does not report. As a wish, it is one to leave alone. As the
// difference of the two, [Diff], it is one that needs no write.
package vfstate

import (
	"bytes"
	"fmt"
	"net"
	"strings"
)

// State is the administrative state of one VF.
type State struct {
	MAC        net.HardwareAddr `json:"mac,omitempty"`        // IFLA_VF_MAC; all zero lets the VF choose
	VLAN       *VLAN            `json:"vlan,omitempty"`       // IFLA_VF_VLAN, IFLA_VF_VLAN_LIST
	Rate       *Rate            `json:"rate,omitempty"`       // IFLA_VF_RATE
	SpoofCheck Switch           `json:"spoofCheck,omitempty"` // IFLA_VF_SPOOFCHK: drop frames with a foreign source MAC
	LinkState  LinkState        `json:"linkState,omitempty"`  // IFLA_VF_LINK_STATE
	QueryRSS   Switch           `json:"queryRSS,omitempty"`   // IFLA_VF_RSS_QUERY_EN: the VF may read its RSS table
	Trust      Switch           `json:"trust,omitempty"`      // IFLA_VF_TRUST: the VF may set promiscuous mode and change its MAC
	NodeGUID   *GUID            `json:"nodeGUID,omitempty"`   // IFLA_VF_IB_NODE_GUID
	PortGUID   *GUID            `json:"portGUID,omitempty"`   // IFLA_VF_IB_PORT_GUID
}

// VLAN is the tag that the PF adds to what the VF sends and strips from what it
// receives.
type VLAN struct {
	ID    uint16    `json:"id"`    // 1 to 4094; 0 is untagged
	QoS   uint8     `json:"qos"`   // 802.1p priority, 0 to 7
	Proto VLANProto `json:"proto"` // 0 is 802.1Q
}

// VLANProto is the EtherType of the tag.
type VLANProto uint16

// Tag protocols.
const (
	Proto8021Q  VLANProto = 0x8100
	Proto8021AD VLANProto = 0x88a8 // service tag; few drivers take it
)

func (p VLANProto) String() string {
	switch p {
	case 0, Proto8021Q:
		return "802.1q"
	case Proto8021AD:
		return "802.1ad"
	}
	return fmt.Sprintf("%#04x", uint16(p))
}

// normal spells out the default protocol, so that equal tags compare equal. An
// untagged VF has no protocol: drivers report either for it.
func (v VLAN) normal() VLAN {
	if v.Proto == 0 || v.ID == 0 && v.QoS == 0 {
		v.Proto = Proto8021Q
	}
	return v
}

// Rate bounds what the VF sends, in Mbit/s; 0 is no bound.
type Rate struct {
	Min uint32 `json:"min"`
	Max uint32 `json:"max"`
}

// Switch is a setting that is on, off, or not said.
type Switch uint8

// Positions of a switch.
const (
	Unset Switch = iota
	Off
	On
)

// SwitchOf is On for true.
func SwitchOf(on bool) Switch {
	if on {
		return On
	}
	return Off
}

func (s Switch) String() string { return [...]string{"unset", "off", "on"}[min(s, On)] }

// LinkState is what link the VF sees.
type LinkState uint8

// Link states. LinkUnset is a state that is not said.
const (
	LinkUnset   LinkState = iota
	LinkAuto              // as the PF's own
	LinkEnable            // up whatever the PF's is; VFs of one PF still reach each other
	LinkDisable           // down: the VF sends and receives nothing
)

func (s LinkState) String() string {
	return [...]string{"unset", "auto", "enable", "disable"}[min(s, LinkDisable)]
}

// GUID is an InfiniBand EUI-64. It prints as eight bytes with colons.
type GUID uint64

func (g GUID) String() string {
	var b strings.Builder
	for shift := 56; shift >= 0; shift -= 8 {
		if shift != 56 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02x", uint8(g>>shift))
	}
	return b.String()
}

// Diff is the part of want that have does not show yet: what must be written to
// get there. The way back is Diff of a new reading and the old one.
func Diff(have, want State) State {
	var d State
	if want.MAC != nil && !bytes.Equal(have.MAC, want.MAC) {
		d.MAC = want.MAC
	}
	if want.VLAN != nil && (have.VLAN == nil || have.VLAN.normal() != want.VLAN.normal()) {
		d.VLAN = want.VLAN
	}
	d.Rate = differing(have.Rate, want.Rate)
	if want.SpoofCheck != have.SpoofCheck {
		d.SpoofCheck = want.SpoofCheck
	}
	if want.LinkState != have.LinkState {
		d.LinkState = want.LinkState
	}
	if want.QueryRSS != have.QueryRSS {
		d.QueryRSS = want.QueryRSS
	}
	if want.Trust != have.Trust {
		d.Trust = want.Trust
	}
	d.NodeGUID = differing(have.NodeGUID, want.NodeGUID)
	d.PortGUID = differing(have.PortGUID, want.PortGUID)
	return d
}

// differing is want, unless have is the same.
func differing[T comparable](have, want *T) *T {
	if have != nil && want != nil && *have == *want {
		return nil
	}
	return want
}

// Attributes of a State, by the names that messages use.
const (
	AttrMAC        = "mac"
	AttrVLAN       = "vlan"
	AttrRate       = "rate"
	AttrSpoofCheck = "spoofchk"
	AttrLinkState  = "link state"
	AttrQueryRSS   = "query_rss"
	AttrTrust      = "trust"
	AttrNodeGUID   = "node guid"
	AttrPortGUID   = "port guid"
)

// Split takes a state apart into one for each field that is set, in the order
// in which the kernel handles them (do_setvfinfo in net/core/rtnetlink.c).
func (s State) Split() []Part {
	var parts []Part
	add := func(set bool, attr string, value any, only State) {
		if set {
			parts = append(parts, Part{Attr: attr, Value: fmt.Sprint(value), State: only})
		}
	}
	add(s.MAC != nil, AttrMAC, s.MAC, State{MAC: s.MAC})
	if v := s.VLAN; v != nil {
		add(true, AttrVLAN, fmt.Sprintf("%d qos %d proto %s", v.ID, v.QoS, v.Proto), State{VLAN: v})
	}
	if r := s.Rate; r != nil {
		add(true, AttrRate, fmt.Sprintf("%d to %d Mbit/s", r.Min, r.Max), State{Rate: r})
	}
	add(s.SpoofCheck != Unset, AttrSpoofCheck, s.SpoofCheck, State{SpoofCheck: s.SpoofCheck})
	add(s.LinkState != LinkUnset, AttrLinkState, s.LinkState, State{LinkState: s.LinkState})
	add(s.QueryRSS != Unset, AttrQueryRSS, s.QueryRSS, State{QueryRSS: s.QueryRSS})
	add(s.Trust != Unset, AttrTrust, s.Trust, State{Trust: s.Trust})
	if s.NodeGUID != nil {
		add(true, AttrNodeGUID, *s.NodeGUID, State{NodeGUID: s.NodeGUID})
	}
	if s.PortGUID != nil {
		add(true, AttrPortGUID, *s.PortGUID, State{PortGUID: s.PortGUID})
	}
	return parts
}

// Part is one field of a State, with its name and value for a message.
type Part struct {
	Attr, Value string
	State       State
}

// IsZero tells that no field is set.
func (s State) IsZero() bool { return len(s.Split()) == 0 }
