// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"strings"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/sriovkit/sriovkit/sriov-cni/request"
)

// Record is the file by which DEL knows the configuration of ADD, in the format
// of the SR-IOV CNI plugin that this one replaces: the configuration's keys,
// and beside them what that plugin adds, of which DEL needs these. It knows
// nothing of an interface's flags and alternative names; the journal does.
type Record struct {
	Name   string `json:"name"`
	Device string `json:"deviceID"`
	IPAM   struct {
		Type string `json:"type"`
	} `json:"ipam"`

	// Settings that were asked for. The rest of Before is not to be restored,
	// but for the addresses and the MTU, which a pod may change unasked.
	VLAN      *int   `json:"vlan"`
	SpoofChk  string `json:"spoofchk"`
	Trust     string `json:"trust"`
	LinkState string `json:"link_state"`
	MinTxRate *int   `json:"min_tx_rate"`
	MaxTxRate *int   `json:"max_tx_rate"`

	VFIndex int          `json:"VFID"`
	PFName  string       `json:"Master"`
	MAC     string       `json:"MAC"`
	Before  recordBefore `json:"OrigVfState"`

	// Sriovkit marks a record that this plugin wrote: whether the VF is still
	// to be brought back is then told by the journal alone.
	Sriovkit *RecordMark `json:"sriovkit,omitempty"`

	formerBoot bool // as Journal.FormerBoot
}

// RecordMark is what this plugin adds to a record.
type RecordMark struct {
	Version  int        `json:"version"`
	Owner    Attachment `json:"owner"`
	Identity Identity   `json:"identity"` // of the VF: after a reboot it is another
}

// recordBefore is how the VF was before ADD.
type recordBefore struct {
	HostIFName   string
	SpoofChk     bool
	Trust        bool
	AdminMAC     string
	EffectiveMAC string
	Vlan         int
	VlanQoS      int
	VlanProto    int // 0x8100, 0x88a8; 0 is the former
	MinTxRate    int
	MaxTxRate    int
	LinkState    uint32 // 0 auto, 1 enable, 2 disable
	MTU          int
}

// ComposeRecord writes what j says into the keys of the configuration.
func ComposeRecord(r request.Request, j Journal, pfName string) ([]byte, error) {
	before := recordBefore{SpoofChk: j.Before.SpoofCheck == vfstate.On, Trust: j.Before.Trust == vfstate.On}
	if j.PF != nil {
		before.AdminMAC = j.Before.MAC.String()
	}
	if v := j.Before.VLAN; v != nil {
		before.Vlan, before.VlanQoS, before.VlanProto = int(v.ID), int(v.QoS), int(v.Proto)
	}
	if rate := j.Before.Rate; rate != nil {
		before.MinTxRate, before.MaxTxRate = int(rate.Min), int(rate.Max)
	}
	if s := j.Before.LinkState; s != vfstate.LinkUnset {
		before.LinkState = uint32(s - vfstate.LinkAuto)
	}
	all := map[string]any{}
	if err := json.Unmarshal(r.Stdin, &all); err != nil {
		return nil, err
	}
	// The other reader matches keys in any case: no second spelling may stay.
	own := map[string]any{
		"deviceID": j.Device, "Master": pfName, "VFID": j.VFIndex, "MAC": r.MAC.String(),
		"vlan": r.Conf.VLAN, "vlanQoS": r.Conf.VLANQoS, "vlanProto": r.Conf.VLANProto,
		"sriovkit": RecordMark{Version: Version, Owner: j.Owner, Identity: j.Identity},
	}
	if j.Link != nil {
		before.HostIFName, before.EffectiveMAC, before.MTU = j.Link.Name, net.HardwareAddr(j.Link.MAC).String(), j.Link.MTU
		own["MTU"] = j.Link.MTU
	}
	own["OrigVfState"] = before
	for key := range own {
		maps.DeleteFunc(all, func(k string, _ any) bool { return strings.EqualFold(k, key) })
	}
	maps.DeleteFunc(all, func(k string, _ any) bool { return strings.EqualFold(k, "prevResult") })
	maps.Copy(all, own)
	return json.Marshal(all)
}

// Journal is what a record tells about how to bring the VF back. The inode of the
// namespace is not in it and, where the other plugin wrote it, no identity.
func (r Record) Journal(owner Attachment, netns string) (Journal, error) {
	a, err := libsriov.ParseAddress(r.Device)
	if err != nil {
		return Journal{}, fmt.Errorf("record of %s %s: %w", owner.ContainerID, owner.IfName, err)
	}
	b := r.Before
	j := Journal{
		Version: Version, Owner: owner, Network: r.Name,
		Device: a, VFIndex: r.VFIndex, NetNS: Namespace{Path: netns},
	}
	j.Before.MAC, _ = net.ParseMAC(b.AdminMAC) // "" is a VF of which none was known
	if r.VLAN != nil {
		j.Want.VLAN = &vfstate.VLAN{}
		j.Before.VLAN = &vfstate.VLAN{ID: uint16(b.Vlan), QoS: uint8(b.VlanQoS), Proto: vfstate.VLANProto(b.VlanProto)}
	}
	if r.SpoofChk != "" {
		j.Want.SpoofCheck, j.Before.SpoofCheck = vfstate.On, vfstate.SwitchOf(b.SpoofChk)
	}
	if r.Trust != "" {
		j.Want.Trust, j.Before.Trust = vfstate.On, vfstate.SwitchOf(b.Trust)
	}
	if r.LinkState != "" && b.LinkState <= 2 {
		j.Want.LinkState, j.Before.LinkState = vfstate.LinkAuto, vfstate.LinkAuto+vfstate.LinkState(b.LinkState)
	}
	if r.MinTxRate != nil || r.MaxTxRate != nil {
		j.Want.Rate, j.Before.Rate = &vfstate.Rate{}, &vfstate.Rate{Min: uint32(b.MinTxRate), Max: uint32(b.MaxTxRate)}
	}
	j.FormerBoot = r.formerBoot
	if r.Sriovkit != nil {
		j.Identity = r.Sriovkit.Identity
	}
	if b.HostIFName != "" {
		effective, _ := net.ParseMAC(b.EffectiveMAC)
		j.Link = OrdinaryLink(a, b.HostIFName)
		j.Link.MAC, j.Link.MTU = MAC(effective), b.MTU
	}
	return j, nil
}
