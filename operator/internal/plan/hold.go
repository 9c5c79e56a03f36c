// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// nodePF is a PF of the node as the planner sees it: reported by the daemon, planned
// before, or both. A PF that has a plan keeps it, by PCI address and hardware identity,
// until no policy selects it. That a report lacks the PF or its name does not mean that
// anybody wants its VFs removed.
type nodePF struct {
	*v1.InterfaceExt                    // as reported; if missing, as its plan describes it
	planned          *v1.Interface      // the plan so far for this device, nil if there is none
	missing          bool               // planned, but not in the report
	names            []string           // interface names that the PF has now
	past             []string           // names in the plan that the PF does not have any more
	taken            map[string]*nodePF // by name: the planned PF that had this PF's present name before
}

// SameDevice reports whether a PF can be the device that a plan was made for. Attributes
// that one of the two lacks are not compared. Neither is the MAC of a VF whose PF is not
// visible, as in a virtual machine: it may change at each start.
func SameDevice(planned v1.Interface, pf *v1.InterfaceExt) bool {
	differ := func(a, b string) bool { return a != "" && b != "" && !strings.EqualFold(a, b) }
	return !differ(planned.Vendor, pf.Vendor) && !differ(planned.DeviceID, pf.DeviceID) &&
		(pf.Virtual() || !differ(planned.Mac, pf.PermanentMac))
}

// device formats the identity of a device, as SameDevice compares it, for messages.
func device(vendor, id, mac string) string {
	return strings.TrimSuffix(fmt.Sprintf("%s:%s %s", cmp.Or(vendor, "?"), cmp.Or(id, "?"), mac), " ")
}

// nodePFs lists the PFs of a node by address: those in the report, and those that have a
// plan and are missing from the report. A missing PF that the report shows at another
// address is not listed twice.
func nodePFs(state *v1.SriovNetworkNodeState) []*nodePF {
	named := map[string]string{} // PF address by interface name
	macs := map[string]bool{}
	out := make([]*nodePF, 0, len(state.Status.Interfaces))
	at := make(map[string]*nodePF, cap(out))
	for i := range state.Status.Interfaces {
		p := newNodePF(&state.Status.Interfaces[i])
		if at[p.PciAddress] != nil {
			continue // a broken report lists it twice
		}
		out, at[p.PciAddress] = append(out, p), p
		macs[strings.ToLower(p.PermanentMac)] = true
		for _, name := range p.names {
			named[name] = p.PciAddress
		}
	}
	for i := range state.Spec.Interfaces {
		planned := &state.Spec.Interfaces[i]
		p, known := at[planned.PciAddress]
		switch {
		case known && p.planned != nil: // listed twice, which the operator never writes
			continue
		case known && SameDevice(*planned, p.InterfaceExt):
			p.planned = planned
		case !known && !moved(planned, macs, named):
			p = newNodePF(&v1.InterfaceExt{
				PciAddress: planned.PciAddress, Name: planned.Name, AltNames: planned.AltNames,
				Vendor: planned.Vendor, DeviceID: planned.DeviceID, PermanentMac: planned.Mac,
			})
			p.planned, p.missing = planned, true
			out, at[p.PciAddress] = append(out, p), p
			continue
		default:
			continue
		}
		names := p.names
		for _, name := range slices.Concat([]string{planned.Name}, planned.AltNames) {
			if name == "" || slices.Contains(names, name) {
				continue
			}
			p.past = append(p.past, name)
			if other := at[named[name]]; other != nil {
				if other.taken == nil {
					other.taken = map[string]*nodePF{}
				}
				other.taken[name] = p
			}
		}
	}
	slices.SortFunc(out, func(a, b *nodePF) int { return cmp.Compare(a.PciAddress, b.PciAddress) })
	return out
}

// moved reports whether the device of a plan, which is not at its address any more, has
// been found at another address: by its MAC, or by its interface name.
func moved(planned *v1.Interface, macs map[string]bool, named map[string]string) bool {
	return planned.Name != "" && named[planned.Name] != "" || planned.Mac != "" && macs[strings.ToLower(planned.Mac)]
}

func newNodePF(i *v1.InterfaceExt) *nodePF {
	p := &nodePF{InterfaceExt: i, names: i.AltNames}
	if i.Name != "" {
		p.names = append([]string{i.Name}, i.AltNames...)
	}
	return p
}

// free reports whether a policy may select the PF by one of its names. If the policy
// selected another PF by that name before and still has VFs there, the name goes on
// meaning that PF.
func (p *nodePF) free(policy, name string) bool {
	holder := p.taken[name]
	return holder == nil || !holder.has(policy)
}

// has reports whether the PF's plan so far has VFs of the policy.
func (p *nodePF) has(policy string) bool {
	return p.planned != nil && slices.ContainsFunc(p.planned.VfGroups, func(g v1.VfGroup) bool { return g.PolicyName == policy })
}

// unseen reports whether a planned PF is missing from the report, or is there without its
// SR-IOV capability, so that it cannot be planned anew.
func (p *nodePF) unseen() bool { return p.missing || p.planned != nil && p.TotalVfs == 0 }

// identity returns the part of the PF's plan that says which device it is for: address,
// vendor, device, MAC, and the names by which the policies of the requests select it.
func (p *nodePF) identity(requests []request) v1.Interface {
	var planned v1.Interface
	if p.planned != nil {
		planned = *p.planned
	}
	out := v1.Interface{
		PciAddress: p.PciAddress, Name: cmp.Or(p.Name, planned.Name),
		Vendor: cmp.Or(p.Vendor, planned.Vendor), DeviceID: cmp.Or(p.DeviceID, planned.DeviceID),
	}
	if !p.Virtual() {
		out.Mac = cmp.Or(p.PermanentMac, planned.Mac)
	}
	for _, name := range slices.Concat(p.names, p.past) {
		before := func() bool { return name == planned.Name || slices.Contains(planned.AltNames, name) }
		if name != out.Name && slices.ContainsFunc(requests, func(c request) bool { return c.policy.names[name] != nil || c.held && before() }) {
			out.AltNames = append(out.AltNames, name)
		}
	}
	slices.Sort(out.AltNames)
	out.AltNames = slices.Compact(out.AltNames)
	return out
}

// appendHeld appends a request for the VFs that a policy has in the PF's plan so far. It
// stands in where the policy or the PF cannot be planned anew.
func appendHeld(requests []request, p *parsedPolicy, pf *nodePF) []request {
	have := pf.planned
	if have == nil {
		return requests
	}
	if !pf.unseen() && have.NumVfs > pf.TotalVfs {
		return requests
	}
	c := request{numVfs: have.NumVfs, held: true}
	for _, g := range have.VfGroups {
		if g.PolicyName != p.Name {
			continue
		}
		r, err := ParseRange(g.VfRange)
		if _, twice := c.overlap(r); err == nil && r.Last < have.NumVfs && !twice {
			c.groups = append(c.groups, group{r, g})
			c.mtu = max(c.mtu, g.Mtu)
			slices.SortFunc(c.groups, func(a, b group) int { return cmp.Compare(a.First, b.First) })
		}
	}
	if len(c.groups) == 0 {
		return requests
	}
	policy := *p.SriovNetworkNodePolicy
	policy.Spec.EswitchMode, policy.Spec.LinkType, policy.Spec.ExternallyManaged = have.EswitchMode, have.LinkType, have.ExternallyManaged
	c.policy = &parsedPolicy{SriovNetworkNodePolicy: &policy, names: p.names}
	return append(requests, c)
}
