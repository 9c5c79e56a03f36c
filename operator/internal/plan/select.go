// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// parsedPolicy is a policy with its nicSelector parsed: each policy is compared with each
// PF, of which a broken or hostile node may report thousands.
type parsedPolicy struct {
	*v1.SriovNetworkNodePolicy
	fault error              // from Validate
	roots map[string]bool    // rootDevices, in lower case
	names map[string][]Range // pfNames: VF ranges by PF name
}

func parsePolicy(p *v1.SriovNetworkNodePolicy) *parsedPolicy {
	n := &p.Spec.NicSelector
	w := &parsedPolicy{SriovNetworkNodePolicy: p, roots: make(map[string]bool, len(n.RootDevices)), names: make(map[string][]Range, len(n.PfNames))}
	for _, a := range n.RootDevices {
		w.roots[strings.ToLower(a)] = true
	}
	for _, entry := range n.PfNames {
		e, err := parsePFName(entry)
		if e.whole {
			e.vfs = Range{0, p.Spec.NumVfs - 1}
		}
		if err == nil {
			w.names[e.name] = append(w.names[e.name], e.vfs)
		}
	}
	return w
}

// selection is the part of a PF that a policy's nicSelector selects.
type selection struct {
	ranges []Range // never empty
	named  bool    // selected by name or address, not by vendor and device alone
}

// selects applies a valid policy's nicSelector to a PF. An attribute that is not known of
// a missing PF does not exclude it.
func (w *parsedPolicy) selects(pf *nodePF) (selection, bool) {
	s := &w.Spec
	n := &s.NicSelector
	var sel selection
	if n.Vendor == "" && n.DeviceID == "" && len(n.PfNames) == 0 && len(n.RootDevices) == 0 && n.NetFilter == "" {
		return sel, false
	}
	differs := func(want, is string) bool {
		return want != "" && !strings.EqualFold(want, is) && (is != "" || !pf.missing)
	}
	if differs(n.Vendor, pf.Vendor) || differs(n.DeviceID, pf.DeviceID) || differs(n.NetFilter, pf.NetFilter) {
		return sel, false
	}
	if len(n.RootDevices) > 0 {
		sel.named = true
		if !w.roots[strings.ToLower(pf.PciAddress)] {
			return sel, false
		}
	}
	if len(n.PfNames) == 0 {
		sel.ranges = []Range{{0, s.NumVfs - 1}}
		return sel, true
	}
	sel.named = true
	for _, name := range pf.names {
		if vfs := w.names[name]; vfs != nil && pf.free(w.Name, name) {
			sel.ranges = append(sel.ranges, vfs...)
		}
	}
	// A policy that has VFs on the PF goes on selecting it by its former names, but only if no
	// present name selects it. Were both added up, what a policy gets would depend on what it
	// has, and plans would alternate.
	if len(sel.ranges) == 0 && pf.has(w.Name) {
		for _, name := range pf.past {
			sel.ranges = append(sel.ranges, w.names[name]...)
		}
	}
	sel.ranges = union(sel.ranges)
	return sel, len(sel.ranges) > 0
}

// wants reports whether a policy may have VFs of a PF: its selector selects the PF, or it
// has VFs there that it may keep.
func (w *parsedPolicy) wants(pf *nodePF) bool {
	_, selects := w.selects(pf)
	return selects || pf.has(w.Name)
}
