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
	with := append(slices.DeleteFunc(slices.Clone(v.policies), func(o *v1.SriovNetworkNodePolicy) bool { return o.Name == p.Name }), p)
	selected, matched := 0, 0
	var unmatched warnings
	for _, n := range v.nodes {
		if !plan.SelectsNode(p, n.labels) {
			continue
		}
		selected++
		if n.state == nil {
			matched++ // for all we know
			continue
		}
		verdicts := plan.Node(plan.Input{Policies: with, Labels: n.labels, State: n.state}).Verdicts
		own := verdicts[slices.IndexFunc(verdicts, func(o plan.Verdict) bool { return o.Policy == p.Name })]
		if own.Reason == v1.ReasonNoMatch {
			unmatched.of(n.name, own.Message)
			continue
		}
		matched++
		if own.Message != "" {
			w.of(n.name, own.Message)
		}
		v.losers(n, p.Name, verdicts, w)
	}
	switch {
	case selected == 0:
		w.add("nodeSelector matches no node that takes part")
	case matched == 0:
		w.join(unmatched)
	}
}

// losers tells of other policies that lose VFs on a node and do not so far.
func (v view) losers(n node, name string, verdicts []plan.Verdict, w *warnings) {
	var before []plan.Verdict
	for _, o := range verdicts {
		if o.Policy == name || o.Reason != v1.ReasonOverridden && o.Reason != v1.ReasonConflict {
			continue
		}
		if before == nil {
			before = plan.Node(plan.Input{Policies: v.policies, Labels: n.labels, State: n.state}).Verdicts
		}
		if !slices.ContainsFunc(before, func(b plan.Verdict) bool { return b.Policy == o.Policy && b.Message == o.Message }) {
			w.of(n.name, "policy "+o.Policy+": "+o.Message)
		}
	}
}
