// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// verdicts collects what is found out about each policy, by its name, during planning.
type verdicts map[string]*record

type record struct {
	matched bool
	reason  string
	notes   []string
	of      map[string]int // number of notes by reason, those that were not kept included
	pfs     []string
}

// notesKept is how many notes of a reason are kept; the rest is only counted, for a broken
// or hostile node may report thousands of PFs.
const notesKept = 8

func newVerdicts(policies []*parsedPolicy) verdicts {
	v := make(verdicts, len(policies))
	for _, p := range policies {
		v[p.Name] = &record{}
	}
	return v
}

// weight orders reasons: the note with the greatest weight decides a policy's verdict.
var weight = map[string]int{v1.ReasonOverridden: 1, v1.ReasonConflict: 2, v1.ReasonInvalid: 3}

func (v verdicts) note(policy, reason, format string, args ...any) {
	r := v[policy]
	if weight[reason] > weight[r.reason] {
		r.reason = reason
	}
	if r.of == nil {
		r.of = map[string]int{}
	}
	if r.of[reason]++; r.of[reason] <= notesKept {
		r.notes = append(r.notes, fmt.Sprintf(format, args...))
	}
}

// message joins the notes.
func (r *record) message() string {
	more := -len(r.notes)
	for _, n := range r.of {
		more += n
	}
	if more > 0 {
		return strings.Join(r.notes, "; ") + fmt.Sprintf("; and %d more", more)
	}
	return strings.Join(r.notes, "; ")
}

func (v verdicts) matched(policy string) { v[policy].matched = true }

func (v verdicts) applied(policy string, pf *v1.InterfaceExt) {
	v[policy].pfs = append(v[policy].pfs, pf.PciAddress)
}

func (v verdicts) list(policies []*parsedPolicy, pfs []*nodePF) []Verdict {
	out := make([]Verdict, 0, len(policies))
	have := sync.OnceValue(func() string { return selectable(pfs) })
	for _, p := range policies {
		r := v[p.Name]
		out = append(out, Verdict{Policy: p.Name, Reason: r.reason, Message: r.message(), PFs: r.pfs})
		last := &out[len(out)-1]
		switch {
		case r.reason != "":
		case r.matched:
			last.Reason = v1.ReasonApplied
		default:
			last.Reason = v1.ReasonNoMatch
			last.Message = noMatch(p, pfs, have)
		}
	}
	slices.SortFunc(out, func(a, b Verdict) int { return strings.Compare(a.Policy, b.Policy) })
	return out
}

// noMatch explains why a policy selects nothing, and lists what could be selected.
func noMatch(policy *parsedPolicy, pfs []*nodePF, have func() string) string {
	s := &policy.Spec
	n := &s.NicSelector
	switch {
	case n.NetFilter != "":
		return fmt.Sprintf("nicSelector.netFilter %q: this operator does not learn the network ids of virtual machines; select by rootDevices", n.NetFilter)
	case n.Vendor == "" && n.DeviceID == "" && len(n.PfNames) == 0 && len(n.RootDevices) == 0:
		return "nicSelector is empty and selects nothing; give vendor, deviceID, pfNames or rootDevices"
	}
	for _, pf := range pfs {
		if pf.missing || pf.TotalVfs > 0 {
			continue
		}
		if _, ok := policy.selects(pf); ok && firmwareHint(pf.InterfaceExt, s.NumVfs) != "" {
			return label(pf.InterfaceExt) + ": " + fits(s, pf.InterfaceExt).Error()
		}
	}
	return have()
}

// selectable lists the node's PFs that a policy could select.
func selectable(pfs []*nodePF) string {
	var have []string
	for _, pf := range pfs {
		if !pf.missing && pf.TotalVfs > 0 {
			have = append(have, fmt.Sprintf("%s %s:%s", label(pf.InterfaceExt), pf.Vendor, pf.DeviceID))
		}
	}
	if len(have) == 0 {
		return "the node has no PF with VFs to give"
	}
	const shown = 4
	if len(have) > shown {
		have = append(have[:shown], fmt.Sprintf("and %d more", len(have)-shown))
	}
	return "nicSelector matches none of the node's PFs: " + strings.Join(have, ", ")
}

// label names a PF in messages.
func label(pf *v1.InterfaceExt) string {
	if pf.Name == "" {
		return pf.PciAddress
	}
	return pf.Name + " (" + pf.PciAddress + ")"
}

// oneLine formats joined errors, which errors.Join separates by line breaks, for a status
// message.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
