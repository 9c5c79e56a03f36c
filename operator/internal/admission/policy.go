// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"slices"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// policy plans every node that a policy selects as if it were there already, and tells
// what becomes of it and of the others.
func (v view) policy(p *v1.SriovNetworkNodePolicy, w *warnings) {
	if p.Name == v1.DefaultConfigName {
		w.add("a policy named %s is not read: give it another name", p.Name)
		return
	}
	if !v.configured {
		w.add("there is no SriovOperatorConfig %s/%s yet: no node takes part", v.namespace, v1.DefaultConfigName)
		return
	}
	selected, matched := 0, 0
	var unmatched warnings
	rivalsOn := plan.RivalsOf(p, v.policies)
	for _, n := range v.nodes {
		if !plan.SelectsNode(p, n.labels) {
			continue
		}
		selected++
		if n.state == nil {
			matched++ // as far as is known
			continue
		}
		// Of dozens of policies few have to do with this one: planning all, for each of
		// thousands of nodes, takes longer than the API server waits.
		rivals := rivalsOn(n.state)
		verdicts := plan.Node(plan.Input{Policies: append(rivals, p), Labels: n.labels, State: n.state}).Verdicts
		own := verdicts[slices.IndexFunc(verdicts, func(o plan.Verdict) bool { return o.Policy == p.Name })]
		if own.Reason == v1.ReasonNoMatch {
			unmatched.of(n.name, own.Message)
			continue
		}
		matched++
		if own.Message != "" {
			w.of(n.name, own.Message)
		}
		losers(n, p.Name, slices.Concat(rivals, v.named(p.Name)), verdicts, w)
	}
	switch {
	case selected == 0:
		w.add("nodeSelector matches no node that takes part")
	case matched == 0:
		w.join(unmatched)
	}
}

// named is the policy of a name as it is so far, if there is one.
func (v view) named(name string) []*v1.SriovNetworkNodePolicy {
	if i := slices.IndexFunc(v.policies, func(p *v1.SriovNetworkNodePolicy) bool { return p.Name == name }); i >= 0 {
		return v.policies[i : i+1 : i+1]
	}
	return nil
}

// losers warns of other policies that lose VFs on a node by this one and would not without it.
func losers(n node, name string, soFar []*v1.SriovNetworkNodePolicy, verdicts []plan.Verdict, w *warnings) {
	var before []plan.Verdict
	for _, o := range verdicts {
		if o.Policy == name || o.Reason != v1.ReasonOverridden && o.Reason != v1.ReasonConflict {
			continue
		}
		if before == nil {
			before = plan.Node(plan.Input{Policies: soFar, Labels: n.labels, State: n.state}).Verdicts
		}
		if !slices.ContainsFunc(before, func(b plan.Verdict) bool { return b.Policy == o.Policy && b.Message == o.Message }) {
			w.of(n.name, "policy "+o.Policy+": "+o.Message)
		}
	}
}
