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
	policy *v1.SriovNetworkNodePolicy
	numVfs int
	mtu    int
	groups []group
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
// is at fault keeps the VFs it had before, so that a typing error takes no VF away.
func Node(in Input) Result {
	selected := slices.DeleteFunc(slices.Clone(in.Policies), func(p *v1.SriovNetworkNodePolicy) bool {
		return !SelectsNode(p, in.Labels)
	})
	slices.SortFunc(selected, byPrecedence)

	v := newVerdicts(selected)
	pfs := make([]*v1.InterfaceExt, len(in.State.Status.Interfaces))
	for i := range pfs {
		pfs[i] = &in.State.Status.Interfaces[i]
	}
	slices.SortFunc(pfs, func(a, b *v1.InterfaceExt) int { return cmp.Compare(a.PciAddress, b.PciAddress) })

	faults := make(map[string]error, len(selected))
	for _, p := range selected {
		if faults[p.Name] = Validate(&p.Spec); faults[p.Name] != nil {
			v.note(p, v1.ReasonInvalid, "%s", oneLine(faults[p.Name]))
		}
	}
	var out []v1.Interface
	for _, pf := range pfs {
		var claims []claim
		for _, p := range selected {
			if faults[p.Name] != nil {
				claims = appendHeld(claims, p, in.State, pf)
				continue
			}
			sel, ok := selectPF(&p.Spec, pf)
			if !ok || pf.TotalVfs == 0 && !sel.named {
				continue
			}
			v.matched(p)
			if err := fits(&p.Spec, pf); err != nil {
				v.note(p, v1.ReasonInvalid, "%s: %s", label(pf), oneLine(err))
				claims = appendHeld(claims, p, in.State, pf)
				continue
			}
			claims = append(claims, newClaim(p, sel))
		}
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

func newClaim(p *v1.SriovNetworkNodePolicy, sel selection) claim {
	c := claim{policy: p, numVfs: p.Spec.NumVfs, mtu: p.Spec.Mtu}
	for _, r := range sel.ranges {
		c.groups = append(c.groups, group{r, v1.VfGroup{
			ResourceName: p.Spec.ResourceName, DeviceType: cmp.Or(p.Spec.DeviceType, v1.DeviceTypeNetDevice),
			VfRange: r.String(), PolicyName: p.Name, Mtu: p.Spec.Mtu, IsRdma: p.Spec.IsRdma,
			NeedVhostNet: p.Spec.NeedVhostNet, ExcludeTopology: p.Spec.ExcludeTopology,
		}})
	}
	return c
}

// appendHeld adds what a policy at fault already had on the PF.
func appendHeld(claims []claim, p *v1.SriovNetworkNodePolicy, state *v1.SriovNetworkNodeState, pf *v1.InterfaceExt) []claim {
	for _, have := range state.Spec.Interfaces {
		if have.PciAddress != pf.PciAddress {
			continue
		}
		held := *p
		held.Spec.EswitchMode, held.Spec.LinkType, held.Spec.ExternallyManaged = have.EswitchMode, have.LinkType, have.ExternallyManaged
		c := claim{policy: &held, numVfs: have.NumVfs}
		for _, g := range have.VfGroups {
			r, err := ParseRange(g.VfRange)
			if g.PolicyName == p.Name && err == nil && r.Last < have.NumVfs && have.NumVfs <= pf.TotalVfs {
				c.groups = append(c.groups, group{r, g})
				c.mtu = max(c.mtu, g.Mtu)
			}
		}
		if len(c.groups) > 0 {
			return append(claims, c)
		}
	}
	return claims
}

// fits checks a valid policy against the PF it selects.
func fits(s *v1.SriovNetworkNodePolicySpec, pf *v1.InterfaceExt) error {
	switch {
	case pf.TotalVfs == 0:
		return errors.New("has no SR-IOV capability (sriov_totalvfs is absent or 0)")
	case s.NumVfs > pf.TotalVfs:
		return fmt.Errorf("numVfs %d exceeds the %d VFs the device has", s.NumVfs, pf.TotalVfs)
	case pf.Virtual() && (s.EswitchMode == v1.EswitchSwitchdev || s.ExternallyManaged):
		return errors.New("is a VF without a PF in sight: eSwitchMode and externallyManaged do not apply to it")
	case s.ExternallyManaged && s.NumVfs > pf.NumVfs:
		return fmt.Errorf("externallyManaged with numVfs %d, but only %d VFs exist; create them first", s.NumVfs, pf.NumVfs)
	case s.ExternallyManaged && s.Mtu > pf.Mtu:
		return fmt.Errorf("externallyManaged with mtu %d, but the PF has %d; raise it first", s.Mtu, pf.Mtu)
	case s.LinkType != "" && pf.LinkType != "" && !strings.EqualFold(s.LinkType, pf.LinkType):
		return fmt.Errorf("linkType %s, but the port is %s; the port type is set in firmware, which this operator leaves alone",
			s.LinkType, pf.LinkType)
	}
	return nil
}

// layer lays the claims, lowest precedence first, over one PF.
func layer(pf *v1.InterfaceExt, claims []claim, v verdicts) (v1.Interface, bool) {
	var stack []claim
	for _, c := range claims {
		for i := range stack {
			if err := incompatible(stack[i].policy, c.policy); err != nil && len(stack[i].groups) > 0 {
				v.note(stack[i].policy, v1.ReasonConflict, "%s: %v", label(pf), err)
				stack[i].groups = nil
			}
			stack[i].groups = slices.DeleteFunc(stack[i].groups, func(g group) bool {
				for _, n := range c.groups {
					if n.Overlaps(g.Range) {
						v.note(stack[i].policy, v1.ReasonOverridden, "%s: VFs %s overlap with %s of policy %s, which has precedence",
							label(pf), g.Range, n.Range, c.policy.Name)
						return true
					}
				}
				return false
			})
		}
		stack = append(stack, c)
	}
	iface := v1.Interface{PciAddress: pf.PciAddress, Name: pf.Name}
	for _, c := range stack {
		if len(c.groups) == 0 {
			continue
		}
		s := &c.policy.Spec
		iface.NumVfs = max(iface.NumVfs, c.numVfs)
		iface.Mtu = max(iface.Mtu, c.mtu)
		iface.ExternallyManaged = s.ExternallyManaged
		iface.EswitchMode = cmp.Or(s.EswitchMode, iface.EswitchMode)
		iface.LinkType = cmp.Or(s.LinkType, iface.LinkType)
		for _, g := range c.groups {
			iface.VfGroups = append(iface.VfGroups, g.VfGroup)
		}
		v.applied(c.policy, pf)
	}
	slices.SortFunc(iface.VfGroups, func(a, b v1.VfGroup) int {
		ra, _ := ParseRange(a.VfRange)
		rb, _ := ParseRange(b.VfRange)
		return cmp.Compare(ra.First, rb.First)
	})
	return iface, len(iface.VfGroups) > 0
}

// incompatible says why two policies cannot share a PF; the earlier gives way.
func incompatible(earlier, later *v1.SriovNetworkNodePolicy) error {
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
func agreeOnTopology(ifaces []v1.Interface, selected []*v1.SriovNetworkNodePolicy, v verdicts) {
	byName := make(map[string]*v1.SriovNetworkNodePolicy, len(selected))
	for _, p := range selected {
		byName[p.Name] = p
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
		if !ok || byPrecedence(byName[w.PolicyName], byName[g.PolicyName]) < 0 {
			winner[g.ResourceName] = *g
		}
	})
	each(func(g *v1.VfGroup) {
		if w := winner[g.ResourceName]; g.ExcludeTopology != w.ExcludeTopology {
			v.note(byName[g.PolicyName], v1.ReasonConflict, "excludeTopology %t of resource %s: policy %s, which has precedence, says %t",
				g.ExcludeTopology, g.ResourceName, w.PolicyName, w.ExcludeTopology)
			g.ExcludeTopology = w.ExcludeTopology
		}
	})
}
