// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"slices"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// Resources is the device plugin's configuration file.
type Resources struct {
	List []Resource `json:"resourceList"`
}

// Resource is one pool of the device plugin.
type Resource struct {
	Name            string     `json:"resourceName"`
	DeviceType      string     `json:"deviceType"`
	ExcludeTopology bool       `json:"excludeTopology,omitempty"`
	Selectors       []Selector `json:"selectors"`
}

// Selector lists VFs by PCI address. The planner has resolved the policies already, so the
// device plugin cannot come to another answer.
type Selector struct {
	PCIAddresses []string `json:"pciAddresses,omitempty"`
	Vendors      []string `json:"vendors,omitempty"`
	// Drivers are those that the VFs have now. The file survives a reboot, after which VFs
	// that something else created may have another driver until the daemon has bound them.
	// They must not be offered before.
	Drivers      []string `json:"drivers,omitempty"`
	VdpaType     string   `json:"vdpaType,omitempty"`
	IsRdma       bool     `json:"isRdma,omitempty"`
	NeedVhostNet bool     `json:"needVhostNet,omitempty"`
}

// matchNothing is a selector that no device meets. No device has vendor ffff: reading the
// configuration space of an empty slot returns it.
var matchNothing = Selector{Vendors: []string{"ffff"}}

// Exceptions are VFs, by PCI address, for which their group does not decide alone whether
// they are offered.
type Exceptions struct {
	Withhold map[string]bool // not offered: steps that disturb them are about to run
	Bound    map[string]bool // offered on any driver: a ResourceClaim asked for the one they have
}

// DevicePlugin derives the device plugin's configuration from a node's spec and the VFs
// that exist. A VF is offered once it has the driver or the vDPA device that its group
// asks for and, on InfiniBand, a GUID.
//
// A resource without any such VF is listed too, with a selector that matches nothing: the
// device plugin then registers it with kubelet, which takes up to a second, while the VFs
// are being created; and a resource all of whose VFs are created anew does not disappear
// from the node in between.
func DevicePlugin(have []v1.InterfaceExt, want v1.SriovNetworkNodeStateSpec, aside Exceptions) Resources {
	type options struct {
		rdma, vhost  bool
		vdpa, driver string
	}
	type pool struct {
		excludeTopology bool
		vfs             map[options][]string
	}
	pools := map[string]*pool{}
	for _, w := range want.Interfaces {
		for _, g := range w.VfGroups {
			if pools[g.ResourceName] == nil {
				pools[g.ResourceName] = &pool{excludeTopology: g.ExcludeTopology, vfs: map[options][]string{}}
			}
		}
		at := slices.IndexFunc(have, func(i v1.InterfaceExt) bool { return i.PciAddress == w.PciAddress })
		if at < 0 || !SameDevice(w, &have[at]) {
			continue // another device is at the address: its VFs were not planned
		}
		for _, vf := range have[at].VFs {
			g, ok := GroupOf(w, vf.VfID)
			fits := serves(g, &vf) || aside.Bound[vf.PciAddress] && vf.Driver != ""
			if !ok || !fits || noGUID(&have[at], &vf) || aside.Withhold[vf.PciAddress] {
				continue
			}
			p := pools[g.ResourceName]
			o := options{g.IsRdma, g.NeedVhostNet, g.VdpaType, vf.Driver}
			p.vfs[o] = append(p.vfs[o], vf.PciAddress)
		}
	}
	out := Resources{List: []Resource{}}
	for name, p := range pools {
		r := Resource{Name: name, DeviceType: "netDevice", ExcludeTopology: p.excludeTopology}
		for o, vfs := range p.vfs {
			slices.Sort(vfs)
			r.Selectors = append(r.Selectors, Selector{PCIAddresses: vfs, VdpaType: o.vdpa, IsRdma: o.rdma, NeedVhostNet: o.vhost, Drivers: []string{o.driver}})
		}
		if len(r.Selectors) == 0 {
			r.Selectors = []Selector{matchNothing}
		}
		slices.SortFunc(r.Selectors, func(a, b Selector) int { return cmp.Compare(a.PCIAddresses[0], b.PCIAddresses[0]) })
		out.List = append(out.List, r)
	}
	slices.SortFunc(out.List, func(a, b Resource) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
