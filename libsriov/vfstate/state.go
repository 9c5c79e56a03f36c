// SPDX-License-Identifier: Apache-2.0

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
	"fmt"
	"net"

	"github.com/sriovkit/sriovkit/libsriov/value"
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

// GUID is an InfiniBand EUI-64.
type GUID = value.GUID
