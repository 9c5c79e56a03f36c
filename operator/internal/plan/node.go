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

// Input is everything that the plan of a node depends on.
type Input struct {
	Policies []*v1.SriovNetworkNodePolicy // every policy of the operator's namespace, in any order
	Labels   map[string]string            // of the node
	State    *v1.SriovNetworkNodeState    // what the daemon reported, and the spec so far
	RdmaMode string                       // of the node's pool; "" leaves it alone
}

// Verdict says what became of a policy on a node.
type Verdict struct {
	Policy  string
	Reason  string   // v1.ReasonApplied, NoMatch, Overridden, Conflict or Invalid
	Message string   // for users; empty if applied
	PFs     []string // PCI addresses of the PFs on which the policy has VFs
}

// request is what a policy asks of a PF.
type request struct {
	policy *parsedPolicy
	numVfs int
	mtu    int
	groups []group // sorted, without overlaps
	held   bool    // taken over from the plan so far, because the policy cannot be planned anew
}

type group struct {
	Range
	v1.VfGroup
}

// Node computes a node's spec, and a verdict for each policy that selects the node.
//
// Policies are applied from the lowest precedence to the highest. A group of VFs that
// overlaps with a group of a later policy is dropped whole; the policy's other groups
// stay. The PF gets as many VFs as the remaining policies ask for, and no more.
//
// An invalid policy keeps the VFs that it had before, so that a typing error removes no
// VF. So does a policy whose PF the daemon did not find, or did not find by its name.
func Node(in Input) Result {
	var selected []*parsedPolicy
	for _, p := range in.Policies {
		if SelectsNode(p, in.Labels) {
			selected = append(selected, parsePolicy(p))
		}
	}
	slices.SortFunc(selected, func(a, b *parsedPolicy) int { return byPrecedence(a.SriovNetworkNodePolicy, b.SriovNetworkNodePolicy) })

	v := newVerdicts(selected)
	pfs := nodePFs(in.State)
	for _, p := range selected {
		if p.fault = Validate(&p.Spec); p.fault != nil {
			v.note(p.Name, v1.ReasonInvalid, "%s", oneLine(p.fault))
		}
	}
	var out []v1.Interface
	for _, pf := range pfs {
		requests := requestsFor(pf, selected, v)
		if iface, ok := layer(pf, requests, v); ok {
			out = append(out, iface)
		}
	}
	agreeOnTopology(out, selected, v)
	spec := v1.SriovNetworkNodeStateSpec{Interfaces: out, Bridges: in.State.Spec.Bridges}
	spec.System.RdmaMode = in.RdmaMode
	return Result{Spec: spec, Verdicts: v.list(selected, pfs)}
}

// Result is the outcome of planning a node.
type Result struct {
	Spec     v1.SriovNetworkNodeStateSpec
	Verdicts []Verdict
}

// requestsFor lists what the policies ask of a PF, lowest precedence first.
func requestsFor(pf *nodePF, selected []*parsedPolicy, v verdicts) []request {
	var requests []request
	for _, p := range selected {
		if p.fault != nil {
			requests = appendHeld(requests, p, pf)
			continue
		}
		sel, ok := p.selects(pf)
		if !ok || pf.TotalVfs == 0 && !sel.named && !pf.unseen() {
			continue
		}
		v.matched(p.Name)
		if pf.unseen() {
			requests = appendHeld(requests, p, pf)
			continue
		}
		if err := fits(&p.Spec, pf.InterfaceExt); err != nil {
			v.note(p.Name, v1.ReasonInvalid, "%s: %s", label(pf.InterfaceExt), oneLine(err))
			requests = appendHeld(requests, p, pf)
			continue
		}
		requests = append(requests, newRequest(p, sel))
	}
	return requests
}

func newRequest(p *parsedPolicy, sel selection) request {
	c := request{policy: p, numVfs: p.Spec.NumVfs, mtu: p.Spec.Mtu}
	for _, r := range sel.ranges {
		c.groups = append(c.groups, group{r, v1.VfGroup{
			ResourceName: p.Spec.ResourceName, DeviceType: cmp.Or(p.Spec.DeviceType, v1.DeviceTypeNetDevice),
			VfRange: r.String(), PolicyName: p.Name, Mtu: p.Spec.Mtu, IsRdma: p.Spec.IsRdma, VdpaType: p.Spec.VdpaType,
			NeedVhostNet: p.Spec.NeedVhostNet, ExcludeTopology: p.Spec.ExcludeTopology,
		}})
	}
	return c
}

// fits returns an error if the PF cannot give what a valid policy asks for.
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

// firmwareHint names the command that raises the firmware's limit of VFs. The operator
// itself never changes firmware settings.
func firmwareHint(pf *v1.InterfaceExt, numVfs int) string {
	if pf.Virtual() || !strings.EqualFold(pf.Vendor, vendorMellanox) {
		return ""
	}
	return fmt.Sprintf("; its firmware sets the limit: run mstconfig -d %s set SRIOV_EN=1 NUM_OF_VFS=%d on the node and reboot it",
		pf.PciAddress, numVfs)
}

// vendorMellanox is the PCI vendor of NICs whose firmware keeps the number of VFs.
const vendorMellanox = "15b3"

// layer combines the requests for a PF, lowest precedence first, into its plan; false if
// no group of VFs is left.
func layer(pf *nodePF, requests []request, v verdicts) (v1.Interface, bool) {
	var stack []request
	for _, c := range requests {
		for i := range stack {
			if len(stack[i].groups) == 0 {
				continue // dropped already
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
	stack = slices.DeleteFunc(stack, func(c request) bool { return len(c.groups) == 0 })
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

// overlap returns the request's first range that shares a VF with r.
func (c *request) overlap(r Range) (Range, bool) {
	at, _ := slices.BinarySearchFunc(c.groups, r.First, func(g group, first int) int { return cmp.Compare(g.Last, first) })
	if at == len(c.groups) || !c.groups[at].Overlaps(r) {
		return Range{}, false
	}
	return c.groups[at].Range, true
}

// incompatible returns why two policies cannot share a PF, nil if they can. The later one
// has precedence.
func incompatible(earlier, later *parsedPolicy) error {
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

// agreeOnTopology gives all groups of a resource the excludeTopology of the policy with
// the highest precedence: the device plugin has one such setting for each resource.
func agreeOnTopology(ifaces []v1.Interface, selected []*parsedPolicy, v verdicts) {
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
