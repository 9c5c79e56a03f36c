// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// Input is all that one node's plan depends on.
type Input struct {
	Policies []*v1.SriovNetworkNodePolicy // every policy of the operator's namespace, in any order
	Labels   map[string]string            // of the node
	State    *v1.SriovNetworkNodeState    // what the daemon reported, and the spec so far
	RdmaMode string                       // of the node's pool; "" leaves it alone
}

// Verdict is what became of one policy on one node.
type Verdict struct {
	Policy  string
	Reason  string   // v1.ReasonApplied, NoMatch, Overridden, Conflict or Invalid
	Message string   // for people; empty when applied
	PFs     []string // PCI addresses of the PFs on which the policy has VFs
}

// claim is what one policy wants of one PF.
type claim struct {
	policy *wish
	numVfs int
	mtu    int
	groups []group // in order, none sharing a VF with another
	held   bool    // what the policy had before, not what it says now
}

type group struct {
	Range
	v1.VfGroup
}

// Node plans one node. The verdicts cover the policies that select the node, by name.
//
// Policies are laid over each other from the lowest priority to the highest. A group
// of VFs that shares a VF with a later one gives way as a whole; the rest stays. The
// PF gets as many VFs as the remaining policies ask for, and no more. A policy that
// is at fault keeps the VFs it had before, so that a typing error takes no VF away; so
// does one whose PF the daemon did not find, or not by its name.
func Node(in Input) Result {
	var selected []*wish
	for _, p := range in.Policies {
		if SelectsNode(p, in.Labels) {
			selected = append(selected, wishOf(p))
		}
	}
	slices.SortFunc(selected, func(a, b *wish) int { return byPrecedence(a.SriovNetworkNodePolicy, b.SriovNetworkNodePolicy) })

	v := newVerdicts(selected)
	pfs := ports(in.State)
	for _, p := range selected {
		if p.fault = Validate(&p.Spec); p.fault != nil {
			v.note(p.Name, v1.ReasonInvalid, "%s", oneLine(p.fault))
		}
	}
	var out []v1.Interface
	for _, pf := range pfs {
		claims := claimsOn(pf, selected, v)
		if iface, ok := layer(pf, claims, v); ok {
			out = append(out, iface)
		}
	}
	agreeOnTopology(out, selected, v)
	spec := v1.SriovNetworkNodeStateSpec{Interfaces: out, Bridges: in.State.Spec.Bridges}
	spec.System.RdmaMode = in.RdmaMode
	return Result{Spec: spec, Verdicts: v.list(selected, pfs)}
}

// Result of planning one node.
type Result struct {
	Spec     v1.SriovNetworkNodeStateSpec
	Verdicts []Verdict
}

// claimsOn lists what the policies want of one PF, lowest precedence first.
func claimsOn(pf *port, selected []*wish, v verdicts) []claim {
	var claims []claim
	for _, p := range selected {
		if p.fault != nil {
			claims = appendHeld(claims, p, pf)
			continue
		}
		sel, ok := p.selects(pf)
		if !ok || pf.TotalVfs == 0 && !sel.named && !pf.unseen() {
			continue
		}
		v.matched(p.Name)
		if pf.unseen() {
			claims = appendHeld(claims, p, pf)
			continue
		}
		if err := fits(&p.Spec, pf.InterfaceExt); err != nil {
			v.note(p.Name, v1.ReasonInvalid, "%s: %s", label(pf.InterfaceExt), oneLine(err))
			claims = appendHeld(claims, p, pf)
			continue
		}
		claims = append(claims, newClaim(p, sel))
	}
	return claims
}

func newClaim(p *wish, sel selection) claim {
	c := claim{policy: p, numVfs: p.Spec.NumVfs, mtu: p.Spec.Mtu}
	for _, r := range sel.ranges {
		c.groups = append(c.groups, group{r, v1.VfGroup{
			ResourceName: p.Spec.ResourceName, DeviceType: cmp.Or(p.Spec.DeviceType, v1.DeviceTypeNetDevice),
			VfRange: r.String(), PolicyName: p.Name, Mtu: p.Spec.Mtu, IsRdma: p.Spec.IsRdma, VdpaType: p.Spec.VdpaType,
			NeedVhostNet: p.Spec.NeedVhostNet, ExcludeTopology: p.Spec.ExcludeTopology,
		}})
	}
	return c
}

// fits checks a valid policy against the PF it selects.
func fits(s *v1.SriovNetworkNodePolicySpec, pf *v1.InterfaceExt) error {
	switch {
	case pf.TotalVfs == 0:
		return fmt.Errorf("has no SR-IOV capability (sriov_totalvfs is absent or 0)%s", firmwareHint(pf, s.NumVfs))
	case s.NumVfs > pf.TotalVfs:
		return fmt.Errorf("numVfs %d exceeds the %d VFs the device has%s", s.NumVfs, pf.TotalVfs, firmwareHint(pf, s.NumVfs))
	case pf.Virtual() && (s.EswitchMode == v1.EswitchSwitchdev || s.ExternallyManaged):
		return errors.New("is a VF without a PF in sight: eSwitchMode and externallyManaged do not apply to it")
	case s.ExternallyManaged && s.NumVfs > pf.NumVfs:
		return fmt.Errorf("externallyManaged with numVfs %d, but only %d VFs exist; create them first", s.NumVfs, pf.NumVfs)
	case s.ExternallyManaged && s.Mtu > pf.Mtu && pf.Mtu > 0: // 0: its netdev is elsewhere
		return fmt.Errorf("externallyManaged with mtu %d, but the PF has %d; raise it first", s.Mtu, pf.Mtu)
	case s.LinkType != "" && pf.LinkType != "" && !strings.EqualFold(s.LinkType, pf.LinkType):
		return fmt.Errorf("linkType %s, but the port is %s; the port type is set in firmware, which this operator leaves alone",
			s.LinkType, pf.LinkType)
	}
	return nil
}

// firmwareHint names the command that lifts a limit of the firmware, which this
// operator leaves alone.
func firmwareHint(pf *v1.InterfaceExt, numVfs int) string {
	if pf.Virtual() || !strings.EqualFold(pf.Vendor, vendorMellanox) {
		return ""
	}
	return fmt.Sprintf("; its firmware sets the limit: run mstconfig -d %s set SRIOV_EN=1 NUM_OF_VFS=%d on the node and reboot it",
		pf.PciAddress, numVfs)
}

// vendorMellanox is the PCI vendor of NICs whose firmware keeps the number of VFs.
const vendorMellanox = "15b3"

// layer lays the claims, lowest precedence first, over one PF.
func layer(pf *port, claims []claim, v verdicts) (v1.Interface, bool) {
	var stack []claim
	for _, c := range claims {
		for i := range stack {
			if len(stack[i].groups) == 0 {
				continue // it gave way before
			}
			if err := incompatible(stack[i].policy, c.policy); err != nil {
				v.note(stack[i].policy.Name, v1.ReasonConflict, "%s: %v", label(pf.InterfaceExt), err)
				stack[i].groups = nil
			}
			stack[i].groups = slices.DeleteFunc(stack[i].groups, func(g group) bool {
				n, overlaps := c.overlap(g.Range)
				if overlaps {
					v.note(stack[i].policy.Name, v1.ReasonOverridden, "%s: VFs %s overlap with %s of policy %s, which has precedence",
						label(pf.InterfaceExt), g.Range, n, c.policy.Name)
				}
				return overlaps
			})
		}
		stack = append(stack, c)
	}
	stack = slices.DeleteFunc(stack, func(c claim) bool { return len(c.groups) == 0 })
	iface := pf.identity(stack)
	for _, c := range stack {
		s := &c.policy.Spec
		iface.NumVfs = max(iface.NumVfs, c.numVfs)
		iface.Mtu = max(iface.Mtu, c.mtu)
		iface.ExternallyManaged = s.ExternallyManaged
		iface.EswitchMode = cmp.Or(s.EswitchMode, iface.EswitchMode)
		iface.LinkType = cmp.Or(s.LinkType, iface.LinkType)
		for _, g := range c.groups {
			iface.VfGroups = append(iface.VfGroups, g.VfGroup)
		}
		v.applied(c.policy.Name, pf.InterfaceExt)
	}
	slices.SortFunc(iface.VfGroups, func(a, b v1.VfGroup) int {
		ra, _ := ParseRange(a.VfRange)
		rb, _ := ParseRange(b.VfRange)
		return cmp.Compare(ra.First, rb.First)
	})
	return iface, len(iface.VfGroups) > 0
}

// overlap is the first range of the claim that shares a VF with r.
func (c *claim) overlap(r Range) (Range, bool) {
	at, _ := slices.BinarySearchFunc(c.groups, r.First, func(g group, first int) int { return cmp.Compare(g.Last, first) })
	if at == len(c.groups) || !c.groups[at].Overlaps(r) {
		return Range{}, false
	}
	return c.groups[at].Range, true
}

// incompatible says why two policies cannot share a PF; the earlier gives way.
func incompatible(earlier, later *wish) error {
	e, l := &earlier.Spec, &later.Spec
	switch {
	case e.ExternallyManaged != l.ExternallyManaged:
		return fmt.Errorf("externallyManaged %t, but policy %s, which has precedence, says %t",
			e.ExternallyManaged, later.Name, l.ExternallyManaged)
	case e.EswitchMode != "" && l.EswitchMode != "" && e.EswitchMode != l.EswitchMode:
		return fmt.Errorf("eSwitchMode %s, but policy %s, which has precedence, says %s", e.EswitchMode, later.Name, l.EswitchMode)
	}
	return nil
}

// agreeOnTopology gives each resource one excludeTopology: that of its policy with
// the highest precedence.
func agreeOnTopology(ifaces []v1.Interface, selected []*wish, v verdicts) {
	rank := make(map[string]int, len(selected))
	for i, p := range selected {
		rank[p.Name] = i
	}
	winner := map[string]v1.VfGroup{}
	each := func(f func(*v1.VfGroup)) {
		for i := range ifaces {
			for j := range ifaces[i].VfGroups {
				f(&ifaces[i].VfGroups[j])
			}
		}
	}
	each(func(g *v1.VfGroup) {
		w, ok := winner[g.ResourceName]
		if !ok || rank[w.PolicyName] < rank[g.PolicyName] {
			winner[g.ResourceName] = *g
		}
	})
	said := map[[2]string]bool{}
	each(func(g *v1.VfGroup) {
		if w := winner[g.ResourceName]; g.ExcludeTopology != w.ExcludeTopology {
			if of := [2]string{g.PolicyName, g.ResourceName}; !said[of] {
				said[of] = true
				v.note(g.PolicyName, v1.ReasonConflict, "excludeTopology %t of resource %s: policy %s, which has precedence, says %t",
					g.ExcludeTopology, g.ResourceName, w.PolicyName, w.ExcludeTopology)
			}
			g.ExcludeTopology = w.ExcludeTopology
		}
	})
}
