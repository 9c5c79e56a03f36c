// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/inventory"
)

// Pod says why a pod has no VF or no network. events are the pod's.
func Pod(inv *inventory.Inventory, p *corev1.Pod, events []corev1.Event) *Report {
	r := newReport(inv, "pod/"+p.Namespace+"/"+p.Name, string(p.Status.Phase))
	requests := inv.Requests(p)
	scheduled := p.Spec.NodeName != ""
	if !scheduled {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
				r.add("pod", c.Reason+": "+c.Message, "")
			}
		}
		for _, name := range slices.Sorted(maps.Keys(requests)) {
			r.resource(inv, name, requests[name])
		}
	}
	r.networks(inv, p, requests)
	if !scheduled {
		return r
	}
	r.State += " on " + p.Spec.NodeName
	why, _ := notReady(p)
	running := p.Status.Phase == corev1.PodRunning && why == ""
	if !running {
		if e, ok := lastWarning(events); ok {
			r.add("event "+e.Reason, e.Message, "")
		}
		if why != "" {
			r.add("pod", why, "")
		}
		if s := inv.State(p.Spec.NodeName); s != nil && len(requests) > 0 {
			r.state(inv, s)
			r.daemons(inv, p.Spec.NodeName)
		}
	}
	if selected, err := inventory.Selections(p); running && err == nil && len(selected) > 0 && p.Annotations[inventory.AnnotationNetworkStatus] == "" {
		r.add("pod", "it runs without an annotation "+inventory.AnnotationNetworkStatus+": no meta plugin attached the networks that it asks for",
			"see that the meta plugin (multus-shim) runs on node "+p.Spec.NodeName+", then create the pod anew")
	}
	if running && len(r.Findings) == 0 {
		r.State += ": " + held(inv, p)
	}
	return r
}

// networks checks what the pod's annotation asks for.
func (r *Report) networks(inv *inventory.Inventory, p *corev1.Pod, requests map[string]int64) {
	selected, err := inventory.Selections(p)
	if err != nil {
		r.add("pod", "its annotation "+v1.AnnotationNetworks+" is not to be read: "+err.Error(), "want names separated by commas, or a JSON list of objects")
		return
	}
	need := map[string]int64{}
	for _, s := range selected {
		a := inv.Attachment(s)
		if a == nil {
			r.noAttachment(inv, s)
			continue
		}
		if resource := a.Annotations[v1.AnnotationResourceName]; resource != "" {
			need[resource]++
			if requests[resource] < need[resource] && len(p.Spec.ResourceClaims) == 0 {
				r.add("network-attachment-definition/"+s.String(),
					fmt.Sprintf("the network needs %d of %s, and the pod asks for %d", need[resource], resource, requests[resource]),
					fmt.Sprintf("add %s: %q to requests and limits of a container, or set enableInjector of the SriovOperatorConfig", resource, fmt.Sprint(need[resource])))
			}
		}
	}
}

// noAttachment says why the NetworkAttachmentDefinition of a network is not there.
func (r *Report) noAttachment(inv *inventory.Inventory, s inventory.Selected) {
	const kind = "network-attachment-definitions"
	if inv.Unread[kind] != "" {
		return
	}
	for i := range inv.Networks {
		n := &inv.Networks[i]
		target := cmp.Or(n.Spec.NetworkNamespace, n.Namespace)
		switch {
		case n.Name != s.Name:
		case target == s.Namespace:
			if !r.falseCondition("sriovnetwork/"+n.Name, n.Status.Conditions, v1.ConditionReady, "") {
				r.add("sriovnetwork/"+n.Name, "its NetworkAttachmentDefinition "+s.String()+" is not there yet", "is the operator running?")
			}
			return
		default:
			r.add("sriovnetwork/"+n.Name, "the network is for namespace "+target+", and the pod looks for it in "+s.Namespace,
				"set networkNamespace: "+s.Namespace+", or write "+target+"/"+s.Name+" in the pod's annotation")
			return
		}
	}
	r.add("pod", "there is no network "+s.String(), "create a SriovNetwork "+s.Name+" with networkNamespace: "+s.Namespace+", or mend the annotation "+v1.AnnotationNetworks)
}

// held names the VFs of a pod, for the case that nothing is missing.
func held(inv *inventory.Inventory, p *corev1.Pod) string {
	var out []string
	me := p.Namespace + "/" + p.Name
	for address, holders := range inv.Holders(p.Spec.NodeName) {
		for _, h := range holders {
			if h.Pod == me {
				out = append(out, strings.TrimSpace(address+" "+h.Interface))
			}
		}
	}
	if len(out) == 0 {
		return "it has no VF, as far as its status tells"
	}
	slices.Sort(out)
	return "it has " + strings.Join(out, ", ")
}

func lastWarning(events []corev1.Event) (corev1.Event, bool) {
	var last corev1.Event
	found := false
	for _, e := range events {
		if e.Type == corev1.EventTypeWarning && (!found || when(e) > when(last)) {
			last, found = e, true
		}
	}
	return last, found
}

// when is the time of an event; which field has it depends on who made it.
func when(e corev1.Event) int64 {
	switch {
	case e.Series != nil:
		return e.Series.LastObservedTime.UnixNano()
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.UnixNano()
	}
	return e.EventTime.UnixNano()
}

// known lists the resources that policies do make.
func known(inv *inventory.Inventory) string {
	var names []string
	for i := range inv.Policies {
		if p := &inv.Policies[i]; p.Namespace == inv.Namespace && !slices.Contains(names, p.Spec.ResourceName) {
			names = append(names, p.Spec.ResourceName)
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return "; there are " + strings.Join(names, ", ")
}
