// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// port is a PF that a plan is made for. A PF that is planned stays planned, by address
// and hardware, until no policy selects it any more: that a look did not find it, or not
// its name, is no wish to take its VFs away.
type port struct {
	*v1.InterfaceExt                  // as reported; of one that is missing, what its plan says
	planned          *v1.Interface    // the plan so far for this device, nil if there is none
	missing          bool             // from the report
	past             []string         // names of the plan that the PF does not have now
	taken            map[string]*port // names of its own by which that other planned PF was selected
}

// SameDevice reports whether a PF can be the device that something was planned for. What
// one of the two does not say is not compared, nor is the MAC of a VF without a PF in
// sight, which may be a new one at each start.
func SameDevice(planned v1.Interface, pf *v1.InterfaceExt) bool {
	differ := func(a, b string) bool { return a != "" && b != "" && !strings.EqualFold(a, b) }
	return !differ(planned.Vendor, pf.Vendor) && !differ(planned.DeviceID, pf.DeviceID) &&
		(pf.Virtual() || !differ(planned.Mac, pf.PermanentMac))
}

// device names a device for people, by what a plan is bound to.
func device(vendor, id, mac string) string {
	return strings.TrimSuffix(fmt.Sprintf("%s:%s %s", cmp.Or(vendor, "?"), cmp.Or(id, "?"), mac), " ")
}

// ports are the PFs of a node, by address: those reported, and those planned before and
// missing from the report, unless the report shows where they went.
func ports(state *v1.SriovNetworkNodeState) []*port {
	carrier := map[string]string{} // of a name: the PF's address
	macs := map[string]bool{}
	out := make([]*port, 0, len(state.Status.Interfaces))
	at := make(map[string]*port, cap(out))
	for i := range state.Status.Interfaces {
		p := &port{InterfaceExt: &state.Status.Interfaces[i]}
		if at[p.PciAddress] != nil {
			continue // the report is broken
		}
		out, at[p.PciAddress] = append(out, p), p
		macs[strings.ToLower(p.PermanentMac)] = true
		for _, name := range p.names() {
			carrier[name] = p.PciAddress
		}
	}
	for i := range state.Spec.Interfaces {
		planned := &state.Spec.Interfaces[i]
		p, known := at[planned.PciAddress]
		switch {
		case known && p.planned != nil: // there twice, as only somebody else writes it
			continue
		case known && SameDevice(*planned, p.InterfaceExt):
			p.planned = planned
		case !known && !wentElsewhere(planned, macs, carrier):
			p = &port{planned: planned, missing: true, InterfaceExt: &v1.InterfaceExt{
				PciAddress: planned.PciAddress, Name: planned.Name, AltNames: planned.AltNames,
				Vendor: planned.Vendor, DeviceID: planned.DeviceID, PermanentMac: planned.Mac,
			}}
			out, at[p.PciAddress] = append(out, p), p
			continue
		default:
			continue
		}
		names := p.names()
		for _, name := range slices.Concat([]string{planned.Name}, planned.AltNames) {
			if name == "" || slices.Contains(names, name) {
				continue
			}
			p.past = append(p.past, name)
			if other := at[carrier[name]]; other != nil {
				if other.taken == nil {
					other.taken = map[string]*port{}
				}
				other.taken[name] = p
			}
		}
	}
	slices.SortFunc(out, func(a, b *port) int { return cmp.Compare(a.PciAddress, b.PciAddress) })
	return out
}

// wentElsewhere reports whether a device that is not at its address any more is seen at
// another, or another has its name.
func wentElsewhere(planned *v1.Interface, macs map[string]bool, carrier map[string]string) bool {
	return planned.Name != "" && carrier[planned.Name] != "" || planned.Mac != "" && macs[strings.ToLower(planned.Mac)]
}

// names the PF has now.
func (p *port) names() []string {
	if p.Name == "" {
		return p.AltNames
	}
	return slices.Concat([]string{p.Name}, p.AltNames)
}

// free reports whether a policy may select the PF by one of its names. A policy that has VFs
// on another PF goes on selecting that by the name by which it did, though it is this one's now.
func (p *port) free(policy, name string) bool {
	holder := p.taken[name]
	return holder == nil || !holder.has(policy)
}

// has reports whether a policy has VFs in the plan of the PF so far.
func (p *port) has(policy string) bool {
	return p.planned != nil && slices.ContainsFunc(p.planned.VfGroups, func(g v1.VfGroup) bool { return g.PolicyName == policy })
}

// unseen reports whether the report says too little about a planned PF to plan it anew.
func (p *port) unseen() bool { return p.missing || p.planned != nil && p.TotalVfs == 0 }

// identity fills in what the plan of the PF is bound to, and the names by which the
// policies that claim it know it.
func (p *port) identity(claims []claim) v1.Interface {
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
	for _, name := range slices.Concat(p.names(), p.past) {
		before := func() bool { return name == planned.Name || slices.Contains(planned.AltNames, name) }
		if name != out.Name && slices.ContainsFunc(claims, func(c claim) bool { return c.policy.names[name] != nil || c.held && before() }) {
			out.AltNames = append(out.AltNames, name)
		}
	}
	slices.Sort(out.AltNames)
	out.AltNames = slices.Compact(out.AltNames)
	return out
}

// appendHeld adds what a policy already had on the PF, where it cannot be planned anew.
func appendHeld(claims []claim, p *wish, pf *port) []claim {
	have := pf.planned
	if have == nil {
		return claims
	}
	if !pf.unseen() && have.NumVfs > pf.TotalVfs {
		return claims
	}
	c := claim{numVfs: have.NumVfs, held: true}
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
		return claims
	}
	policy := *p.SriovNetworkNodePolicy
	policy.Spec.EswitchMode, policy.Spec.LinkType, policy.Spec.ExternallyManaged = have.EswitchMode, have.LinkType, have.ExternallyManaged
	c.policy = &wish{SriovNetworkNodePolicy: &policy, names: p.names}
	return append(claims, c)
}
