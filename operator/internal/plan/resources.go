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

// Selector names VFs one by one: which they are was decided here, once.
type Selector struct {
	PCIAddresses []string `json:"pciAddresses,omitempty"`
	Vendors      []string `json:"vendors,omitempty"`
	// Drivers that the VFs are on now. The file outlives a reboot, after which VFs that
	// others made may be on another one until this operator has seen to them.
	Drivers      []string `json:"drivers,omitempty"`
	VdpaType     string   `json:"vdpaType,omitempty"`
	IsRdma       bool     `json:"isRdma,omitempty"`
	NeedVhostNet bool     `json:"needVhostNet,omitempty"`
}

// none is a selector that no device meets: vendor ffff is what reading the configuration space
// returns where there is no device, so no device has it.
var none = Selector{Vendors: []string{"ffff"}}

// Aside are VFs, by PCI address, that are not what their group says.
type Aside struct {
	Withhold map[string]bool // are about to be disturbed
	Bound    map[string]bool // have the driver that a claim asked for
}

// DevicePlugin derives the device plugin's configuration from a node's spec and the
// VFs that exist. A VF is offered once its driver, or its vDPA device, is what its group asks
// for and, on InfiniBand, it has a GUID; and not while it is about to be disturbed. One that a
// claim has bound to another driver stays what it is, for the pod that has it.
//
// A resource without any such VF is offered all the same. The device plugin registers it
// with kubelet, which takes up to a second, while the VFs are made; and a resource all of
// whose VFs are made anew does not disappear meanwhile, with the VFs that pods hold.
func DevicePlugin(have []v1.InterfaceExt, want v1.SriovNetworkNodeStateSpec, aside Aside) Resources {
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
			continue // the VFs of another device are not what was planned
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
			r.Selectors = []Selector{none}
		}
		slices.SortFunc(r.Selectors, func(a, b Selector) int { return cmp.Compare(a.PCIAddresses[0], b.PCIAddresses[0]) })
		out.List = append(out.List, r)
	}
	slices.SortFunc(out.List, func(a, b Resource) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
