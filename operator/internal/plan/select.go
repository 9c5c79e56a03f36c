// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// wish is a policy with its nicSelector read once: what a node reports may be thousands of
// PFs, and each is held against each policy.
type wish struct {
	*v1.SriovNetworkNodePolicy
	fault error              // of the policy itself
	roots map[string]bool    // rootDevices, in lower case
	names map[string][]Range // pfNames: VFs by the name of their PF
}

func wishOf(p *v1.SriovNetworkNodePolicy) *wish {
	n := &p.Spec.NicSelector
	w := &wish{SriovNetworkNodePolicy: p, roots: make(map[string]bool, len(n.RootDevices)), names: make(map[string][]Range, len(n.PfNames))}
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

// selection is the part of one PF that a policy's nicSelector takes.
type selection struct {
	ranges []Range // never empty
	named  bool    // the PF was named, by name or address, not met by its kind
}

// selects applies a valid policy's nicSelector to a PF. What is not known of a PF that
// is missing does not exclude it.
func (w *wish) selects(pf *port) (selection, bool) {
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
	for _, name := range pf.names() {
		if vfs := w.names[name]; vfs != nil && pf.free(w.Name, name) {
			sel.ranges = append(sel.ranges, vfs...)
		}
	}
	// A policy that has VFs on the PF goes on selecting it by the name by which it did. But
	// that adds nothing to what names of now select: VFs that it gains by having some it may
	// lose with those, and have others the next time.
	if len(sel.ranges) == 0 && pf.has(w.Name) {
		for _, name := range pf.past {
			sel.ranges = append(sel.ranges, w.names[name]...)
		}
	}
	sel.ranges = union(sel.ranges)
	return sel, len(sel.ranges) > 0
}

// wants reports whether a policy may have VFs of a PF: by its selector, or because it has
// some, which it may keep.
func (w *wish) wants(pf *port) bool {
	_, selects := w.selects(pf)
	return selects || pf.has(w.Name)
}
