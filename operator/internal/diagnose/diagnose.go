// SPDX-License-Identifier: Apache-2.0

// Package diagnose says what a pod, a policy or a node lacks and what to do about it, from
// what the cluster shows. It touches nothing and guesses nothing: what could not be read is
// said to be unread.
package diagnose

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
	"github.com/sriovkit/sriovkit/operator/internal/inventory"
)

// Finding is one thing that is missing or wrong.
type Finding struct {
	Object  string `json:"object"` // kind and name of what shows it
	Problem string `json:"problem"`
	Remedy  string `json:"remedy,omitempty"`
}

// Report is the answer to a question about one object.
type Report struct {
	About    string    `json:"about"`
	State    string    `json:"state"` // in few words
	Findings []Finding `json:"findings"`
	// Unread: kinds that could not be read; a cause may be there.
	Unread []string `json:"unread,omitempty"`
}

func (r *Report) add(object, problem, remedy string) {
	f := Finding{object, problem, remedy}
	if !slices.Contains(r.Findings, f) {
		r.Findings = append(r.Findings, f)
	}
}

func newReport(inv *inventory.Inventory, about, state string) *Report {
	return &Report{About: about, State: state, Findings: []Finding{}, Unread: inv.Missed()}
}

// config checks what everything else rests on. It reports whether there is a configuration.
func (r *Report) config(inv *inventory.Inventory) bool {
	if !inv.Installed() {
		r.notInstalled()
		return false
	}
	if inv.Unread["sriovoperatorconfigs"] != "" {
		return true // perhaps
	}
	at := slices.IndexFunc(inv.Configs, func(c v1.SriovOperatorConfig) bool {
		return c.Namespace == inv.Namespace && c.Name == v1.DefaultConfigName
	})
	object := "sriovoperatorconfig/" + v1.DefaultConfigName
	if at < 0 {
		r.add(object, "there is none in namespace "+inv.Namespace+", so no node takes part", "make one, or set CREATE_DEFAULT_CONFIG of the operator to true and restart it")
		return false
	}
	r.falseCondition(object, inv.Configs[at].Status.Conditions, v1.ConditionReady, "")
	for i := range inv.Deployments {
		if d := &inv.Deployments[i]; d.Name == "sriov-network-operator" && d.Status.AvailableReplicas == 0 {
			r.add("deployment/"+d.Name, "no replica of the operator is available, so nothing is planned", "look at its pods: kubectl -n "+inv.Namespace+" describe pods -l app="+d.Name)
		}
	}
	return true
}

func (r *Report) notInstalled() {
	r.add("cluster", "it does not know the kinds of SR-IOV, so there are no policies", "install the operator with its kinds")
}

// falseCondition reports a condition that is False, with its message, which says what to do.
func (r *Report) falseCondition(object string, conditions []metav1.Condition, kind, remedy string) bool {
	c := meta.FindStatusCondition(conditions, kind)
	if c == nil || c.Status != metav1.ConditionFalse {
		return false
	}
	r.add(object, c.Reason+": "+c.Message, remedy)
	return true
}

// Node says why a node does not offer what it should.
func Node(inv *inventory.Inventory, name string) *Report {
	r := newReport(inv, "node/"+name, "")
	node := inv.Node(name)
	s := inv.State(name)
	gone := node == nil && inv.Unread["nodes"] == ""
	if gone {
		r.State = "not there"
		r.add("node/"+name, "there is no such node", "")
		if s == nil {
			return r
		}
	}
	configured := r.config(inv)
	switch {
	case s != nil:
		r.state(inv, s)
		r.State = cmp.Or(r.State, s.Status.SyncStatus, "its daemon has not reported")
	case inv.Unread["sriovnetworknodestates"] != "" && inv.Installed():
		r.State = "unknown"
	default:
		r.State = "takes no part"
		if configured {
			r.selected(inv, node)
		}
	}
	if s != nil && !gone && inv.Unread["pods"] == "" && !slices.ContainsFunc(inv.Pods, func(p corev1.Pod) bool { return isDaemon(inv, &p, name, deploy.DaemonName) }) {
		r.add("daemonset/"+deploy.DaemonName, "it has no pod on this node, so what the node shows may be old", "kubectl -n "+inv.Namespace+" describe daemonset "+deploy.DaemonName)
	}
	r.daemons(inv, name)
	if node != nil && node.Spec.Unschedulable {
		by := "somebody, not the operator, cordoned it"
		if _, ok := node.Annotations[v1.AnnotationCordoned]; ok {
			by = "the operator cordoned it for a drain and will take that back"
		}
		r.add("node/"+name, "no pods are scheduled there: "+by, "")
	}
	if s != nil && node != nil && s.Status.SyncStatus == v1.SyncSucceeded {
		r.offers(inv, s, node)
	}
	return r
}

// selected says why a node without a state has none.
func (r *Report) selected(inv *inventory.Inventory, node *corev1.Node) {
	for i := range inv.Configs {
		c := &inv.Configs[i]
		if c.Namespace != inv.Namespace || c.Name != v1.DefaultConfigName || node == nil {
			continue
		}
		if !deploy.Selected(&c.Spec, node.Labels) {
			r.add("sriovoperatorconfig/default", "configDaemonNodeSelector "+metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: deploy.NodeSelector(&c.Spec)})+" does not select this node",
				"label the node so, or change the selector")
			return
		}
		r.add("node/"+node.Name, "it is selected and has no SriovNetworkNodeState yet", "is the operator running? kubectl -n "+inv.Namespace+" get pods")
	}
}

// state reports what the node's own object says.
func (r *Report) state(inv *inventory.Inventory, s *v1.SriovNetworkNodeState) {
	object := "sriovnetworknodestate/" + s.Name
	switch s.Status.SyncStatus {
	case "":
		r.add(object, "its daemon has not reported yet", "look at its pod: kubectl -n "+inv.Namespace+" get pods -l app="+deploy.DaemonName+" --field-selector spec.nodeName="+s.Name)
	case v1.SyncFailed:
		if !r.falseCondition(object, s.Status.Conditions, v1.ConditionReady, "") || s.Status.LastSyncError != "" {
			r.add(object, "the daemon could not make it so: "+s.Status.LastSyncError, "it tries again by itself once the cause is gone")
		}
	case v1.SyncInProgress:
		r.falseCondition(object, s.Status.Conditions, v1.ConditionReady, "")
	}
	if c := meta.FindStatusCondition(s.Status.Conditions, v1.ConditionDrained); c != nil {
		switch c.Reason {
		case v1.ReasonDrainBlocked:
			r.add(object, c.Reason+": "+c.Message, "delete those pods, or loosen their PodDisruptionBudgets")
		case v1.ReasonDrainQueued:
			r.add(object, c.Reason+": "+c.Message, "it goes on when other nodes of its pool are done; maxUnavailable of the SriovNetworkPoolConfig says how many at once")
		}
	}
	r.falseCondition(object, s.Status.Conditions, v1.ConditionPlanned, "kubectl sriov why policy/NAME says more")
	if until := s.Annotations[v1.AnnotationKeepUntil]; until != "" {
		r.add(object, "the node is gone or no longer selected; its state is kept until "+until, "")
	}
}

// daemons reports pods of the operator on the node that do not run.
func (r *Report) daemons(inv *inventory.Inventory, node string) {
	for i := range inv.Pods {
		p := &inv.Pods[i]
		if !isDaemon(inv, p, node, deploy.DaemonName, deploy.DevicePluginName, deploy.DRAName) {
			continue
		}
		if why, look := notReady(p); why != "" {
			r.add("pod/"+p.Namespace+"/"+p.Name, p.Labels["app"]+" is not ready on this node: "+why, look)
		}
	}
}

// isDaemon reports whether a pod is one of the operator's on a node, by the names of DaemonSets.
func isDaemon(inv *inventory.Inventory, p *corev1.Pod, node string, names ...string) bool {
	return p.Namespace == inv.Namespace && p.Spec.NodeName == node && slices.Contains(names, p.Labels["app"])
}

// notReady says why a pod is not, and which command tells more; nothing if it is.
func notReady(p *corev1.Pod) (why, look string) {
	const kubectl = "kubectl -n %s %s %s"
	for _, c := range append(slices.Clone(p.Status.InitContainerStatuses), p.Status.ContainerStatuses...) {
		w := c.State.Waiting
		if w == nil {
			continue
		}
		look = fmt.Sprintf(kubectl, p.Namespace, "describe pod", p.Name) // it has no log yet
		if c.LastTerminationState.Terminated != nil {
			look = fmt.Sprintf(kubectl, p.Namespace, "logs", p.Name) + " -c " + c.Name + " --previous"
		}
		return strings.TrimSuffix(w.Reason+": "+w.Message, ": "), look
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status != corev1.ConditionTrue {
			return strings.TrimSuffix(c.Reason+": "+c.Message, ": "), fmt.Sprintf(kubectl, p.Namespace, "logs", p.Name)
		}
	}
	return "", ""
}

// offers compares what the plan gives the node with what kubelet counts.
func (r *Report) offers(inv *inventory.Inventory, s *v1.SriovNetworkNodeState, node *corev1.Node) {
	for _, i := range s.Spec.Interfaces {
		for _, g := range i.VfGroups {
			name := inv.Resource(g.ResourceName)
			if amount := node.Status.Allocatable[corev1.ResourceName(name)]; amount.IsZero() {
				r.add("node/"+node.Name, fmt.Sprintf("has VFs %s of %s for %s, and kubelet offers none", g.VfRange, i.PciAddress, name),
					pluginLog(inv, node.Name))
			}
		}
	}
}

// pluginLog is how to see what the device plugin of a node says.
func pluginLog(inv *inventory.Inventory, node string) string {
	at := slices.IndexFunc(inv.Pods, func(p corev1.Pod) bool { return isDaemon(inv, &p, node, deploy.DevicePluginName) })
	if at < 0 {
		return "find its device plugin: kubectl -n " + inv.Namespace + " get pods -l app=" + deploy.DevicePluginName + " --field-selector spec.nodeName=" + node
	}
	return "look at the device plugin: kubectl -n " + inv.Namespace + " logs " + inv.Pods[at].Name
}
