// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/pciname"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// NodeView is one node for people and programs.
type NodeView struct {
	Node  string   `json:"node"`
	Sync  string   `json:"sync"` // Succeeded, InProgress, Failed; empty while its daemon has not reported
	Why   string   `json:"why,omitempty"`
	Drain string   `json:"drain,omitempty"` // empty while idle
	PFs   []PFView `json:"pfs"`
}

// PFView is one port.
type PFView struct {
	Name      string   `json:"name"`
	Address   string   `json:"pciAddress"`
	Vendor    string   `json:"vendor"`
	Device    string   `json:"device"`
	Driver    string   `json:"driver"`
	LinkSpeed string   `json:"linkSpeed,omitempty"`
	Eswitch   string   `json:"eSwitchMode,omitempty"`
	NumVFs    int      `json:"numVfs"`
	TotalVFs  int      `json:"totalVfs"`
	VFs       []VFView `json:"vfs,omitempty"`
}

// VFView is one VF with who has it.
type VFView struct {
	Index    int      `json:"index"`
	Address  string   `json:"pciAddress"`
	Netdev   string   `json:"netdev,omitempty"` // empty while it is in a pod or has no kernel driver
	Driver   string   `json:"driver,omitempty"`
	VLAN     int      `json:"vlan,omitempty"`
	Resource string   `json:"resource,omitempty"`
	Policy   string   `json:"policy,omitempty"`
	Holders  []Holder `json:"holders,omitempty"`
}

// Views describes all nodes that have a state, by name.
func (inv *Inventory) Views(names pciname.Names) []NodeView {
	out := []NodeView{}
	pods := inv.running()
	for i := range inv.States {
		if s := &inv.States[i]; s.Namespace == inv.Namespace {
			out = append(out, inv.view(s, inv.holders(s.Name, pods[s.Name]), names))
		}
	}
	slices.SortFunc(out, func(a, b NodeView) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

func (inv *Inventory) view(s *v1.SriovNetworkNodeState, holders map[string][]Holder, names pciname.Names) NodeView {
	n := NodeView{Node: s.Name, Sync: s.Status.SyncStatus, Why: s.Status.LastSyncError, PFs: []PFView{}}
	if d := s.Annotations[v1.AnnotationCurrentState]; d != v1.DrainIdle {
		n.Drain = d
	}
	for _, i := range s.Status.Interfaces {
		pf := PFView{
			Name: i.Name, Address: i.PciAddress, Driver: i.Driver, LinkSpeed: i.LinkSpeed, Eswitch: i.EswitchMode,
			NumVFs: i.NumVfs, TotalVFs: i.TotalVfs,
		}
		pf.Vendor, pf.Device = Named(names, i.Vendor, i.DeviceID)
		for _, v := range i.VFs {
			vf := VFView{Index: v.VfID, Address: v.PciAddress, Netdev: v.Name, Driver: v.Driver, VLAN: v.Vlan, Holders: holders[v.PciAddress]}
			if g, ok := Group(s, i.PciAddress, v.VfID); ok {
				vf.Resource, vf.Policy = inv.Resource(g.ResourceName), g.PolicyName
			}
			for _, h := range vf.Holders {
				vf.VLAN = cmp.Or(vf.VLAN, inv.VLAN(h.Network))
			}
			pf.VFs = append(pf.VFs, vf)
		}
		n.PFs = append(n.PFs, pf)
	}
	return n
}

// Named turns the numbers of a device into names, or leaves them numbers.
func Named(names pciname.Names, vendor, device string) (string, string) {
	v, errV := strconv.ParseUint(vendor, 16, 16)
	d, errD := strconv.ParseUint(device, 16, 16)
	if errV != nil || errD != nil {
		return vendor, device
	}
	return names.Vendor(libsriov.ID(v)), names.Device(libsriov.ID(v), libsriov.ID(d))
}

// Who names the holders of a VF in few words.
func Who(holders []Holder) string {
	var out []string
	for _, h := range holders {
		switch {
		case h.Pod == "":
			out = append(out, "claim "+h.Claim)
		case h.Interface != "":
			out = append(out, fmt.Sprintf("%s (%s)", h.Pod, h.Interface))
		default:
			out = append(out, h.Pod)
		}
	}
	return strings.Join(out, ", ")
}
