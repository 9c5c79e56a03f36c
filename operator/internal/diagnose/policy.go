// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/inventory"
)

// Policy says why the VFs of a policy are not there.
func Policy(inv *inventory.Inventory, p *v1.SriovNetworkNodePolicy) *Report {
	object := "sriovnetworknodepolicy/" + p.Name
	r := newReport(inv, object, fmt.Sprintf("ready on %d of %d matched nodes", p.Status.ReadyNodes, p.Status.MatchedNodes))
	if p.Namespace != inv.Namespace {
		r.State = "not honoured"
		r.add(object, fmt.Sprintf("it is in namespace %s; policies count in the operator's, %s", p.Namespace, inv.Namespace), "create it there")
		return r
	}
	r.config(inv)
	if len(p.Status.Conditions) == 0 {
		r.add(object, "the operator has not looked at it yet", "is the operator running? kubectl -n "+inv.Namespace+" get pods -l app=sriov-network-operator")
	}
	if c := meta.FindStatusCondition(p.Status.Conditions, v1.ConditionMatched); c != nil && c.Status == metav1.ConditionFalse {
		r.add(object, c.Reason+": "+c.Message, "")
		r.noNodes(inv, p)
	}
	r.falseCondition(object, p.Status.Conditions, v1.ConditionReady, "")
	if p.Spec.NumVfs == 0 {
		r.add(object, "numVfs is 0, so it asks for nothing", "set numVfs")
	}
	selector := labels.SelectorFromSet(p.Spec.NodeSelector)
	for i := range inv.States {
		s := &inv.States[i]
		node := inv.Node(s.Name)
		if s.Namespace != inv.Namespace || node != nil && !selector.Matches(labels.Set(node.Labels)) || node == nil && !has(s, p.Name) {
			continue
		}
		if s.Status.SyncStatus != v1.SyncSucceeded {
			before := len(r.Findings)
			r.state(inv, s)
			if len(r.Findings) > before {
				r.daemons(inv, s.Name)
			}
		}
	}
	return r
}

// noNodes says so if the selector alone keeps every node away.
func (r *Report) noNodes(inv *inventory.Inventory, p *v1.SriovNetworkNodePolicy) {
	if inv.Unread["nodes"] != "" || len(inv.Nodes) == 0 {
		return
	}
	selector := labels.SelectorFromSet(p.Spec.NodeSelector)
	if !slices.ContainsFunc(inv.Nodes, func(n corev1.Node) bool { return selector.Matches(labels.Set(n.Labels)) }) {
		r.add("sriovnetworknodepolicy/"+p.Name, "nodeSelector "+selector.String()+" selects no node", "label nodes so, or change the selector")
	}
}

func has(s *v1.SriovNetworkNodeState, policy string) bool {
	for _, i := range s.Spec.Interfaces {
		for _, g := range i.VfGroups {
			if g.PolicyName == policy {
				return true
			}
		}
	}
	return false
}

// resource says why nodes do not offer a resource that a pod asks for.
func (r *Report) resource(inv *inventory.Inventory, name string, wanted int64) {
	short := strings.TrimPrefix(name, inv.Prefix+"/")
	var policies []*v1.SriovNetworkNodePolicy
	for i := range inv.Policies {
		if p := &inv.Policies[i]; p.Spec.ResourceName == short && p.Namespace == inv.Namespace {
			policies = append(policies, p)
		}
	}
	if len(policies) == 0 && inv.Unread["sriovnetworknodepolicies"] == "" {
		r.add("pod", "no policy makes the resource "+name, "create a SriovNetworkNodePolicy with resourceName: "+short+known(inv))
		return
	}
	for _, p := range policies {
		for _, f := range Policy(inv, p).Findings {
			r.add(f.Object, f.Problem, f.Remedy)
		}
	}
	if inv.Unread["nodes"] != "" {
		return
	}
	var offered, used int64
	enough := false
	for i := range inv.Nodes {
		n := &inv.Nodes[i]
		there := n.Status.Allocatable[corev1.ResourceName(name)]
		taken := inv.Taken(n.Name, name)
		offered, used = offered+there.Value(), used+taken
		enough = enough || there.Value()-taken >= wanted && !n.Spec.Unschedulable
	}
	switch {
	case offered == 0:
		r.add("pod", "no node offers "+name+" now", "")
		if !inv.Installed() {
			r.notInstalled()
		}
	case !enough:
		r.add("pod", fmt.Sprintf("no schedulable node has %d of %s free: %d of %d are taken", wanted, name, used, offered), "delete pods that hold them, or raise numVfs of the policy")
	}
}
