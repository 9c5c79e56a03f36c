// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// AnnotationNetworkStatus on a Pod: what the meta-plugin attached.
const AnnotationNetworkStatus = "k8s.v1.cni.cncf.io/network-status"

// Holder is a pod or claim that has a VF.
type Holder struct {
	Pod       string `json:"pod,omitempty"` // namespace/name
	Claim     string `json:"claim,omitempty"`
	Interface string `json:"interface,omitempty"`
	Network   string `json:"network,omitempty"`
	MAC       string `json:"mac,omitempty"`
}

// attachment is one entry of the network status, as far as it is used.
type attachment struct {
	Name       string `json:"name"`
	Interface  string `json:"interface"`
	MAC        string `json:"mac"`
	DeviceInfo struct {
		PCI struct {
			Address string `json:"pci-address"`
		} `json:"pci"`
		VDPA struct {
			Address string `json:"pci-address"`
		} `json:"vdpa"`
	} `json:"device-info"`
}

// Holders tells who has which VF of a node, by PCI address. A pod's own annotation counts
// only if the pod asks for a resource of SR-IOV and runs on the node: whoever may edit a pod
// may write anything there.
func (inv *Inventory) Holders(node string) map[string][]Holder {
	return inv.holders(node, inv.running()[node])
}

// running are the pods that have not ended, by node.
func (inv *Inventory) running() map[string][]*corev1.Pod {
	out := map[string][]*corev1.Pod{}
	for i := range inv.Pods {
		if p := &inv.Pods[i]; !ended(p) {
			out[p.Spec.NodeName] = append(out[p.Spec.NodeName], p)
		}
	}
	return out
}

func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// holders is Holders, given the pods of the node that have not ended.
func (inv *Inventory) holders(node string, pods []*corev1.Pod) map[string][]Holder {
	out := map[string][]Holder{}
	claimed := map[string]string{} // PCI address and pod to the claim
	for i := range inv.Claims {
		c := &inv.Claims[i]
		if c.Status.Allocation == nil {
			continue
		}
		for _, r := range c.Status.Allocation.Devices.Results {
			address, ok := deviceAddress(r.Device)
			if r.Driver != v1.DRADriver || r.Pool != node || !ok || r.AdminAccess != nil && *r.AdminAccess {
				continue
			}
			claim := c.Namespace + "/" + c.Name
			if len(c.Status.ReservedFor) == 0 {
				out[address] = append(out[address], Holder{Claim: claim})
			}
			for _, user := range c.Status.ReservedFor {
				pod := c.Namespace + "/" + user.Name
				claimed[address+" "+pod] = claim
				out[address] = append(out[address], Holder{Pod: pod, Claim: claim})
			}
		}
	}
	for _, p := range pods {
		pod := p.Namespace + "/" + p.Name
		for _, a := range attachments(p) {
			address := a.DeviceInfo.PCI.Address
			if address == "" {
				address = a.DeviceInfo.VDPA.Address
			}
			if address == "" || len(inv.Requests(p)) == 0 && claimed[address+" "+pod] == "" {
				continue
			}
			h := Holder{Pod: pod, Claim: claimed[address+" "+pod], Interface: a.Interface, Network: a.Name, MAC: a.MAC}
			if at := slices.IndexFunc(out[address], func(o Holder) bool { return o.Pod == pod }); at >= 0 {
				out[address][at] = h
			} else {
				out[address] = append(out[address], h)
			}
		}
	}
	return out
}

func attachments(p *corev1.Pod) []attachment {
	var out []attachment
	if json.Unmarshal([]byte(p.Annotations[AnnotationNetworkStatus]), &out) != nil {
		return nil // absent, or not the meta-plugin's
	}
	return out
}

var deviceName = regexp.MustCompile(`^([0-9a-f]{4,8})-([0-9a-f]{2})-([0-9a-f]{2})-([0-7])$`)

// deviceAddress reads the PCI address from the name of a device in a ResourceSlice.
func deviceAddress(device string) (string, bool) {
	m := deviceName.FindStringSubmatch(device)
	if m == nil {
		return "", false
	}
	return fmt.Sprintf("%s:%s:%s.%s", m[1], m[2], m[3], m[4]), true
}

// Requests are the resources with the operator's prefix that a pod asks for, with amounts as
// kubelet counts them: what an init container had, later containers have again, but for one
// that keeps running beside them.
func (inv *Inventory) Requests(p *corev1.Pod) map[string]int64 {
	out, beside, before := map[string]int64{}, map[string]int64{}, map[string]int64{}
	each := func(c *corev1.Container, do func(name string, amount int64)) {
		for name, amount := range c.Resources.Requests {
			if strings.HasPrefix(string(name), inv.Prefix+"/") {
				do(string(name), amount.Value())
			}
		}
	}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			each(c, func(name string, amount int64) {
				beside[name] += amount
				before[name] = max(before[name], beside[name])
			})
		} else {
			each(c, func(name string, amount int64) { before[name] = max(before[name], beside[name]+amount) })
		}
	}
	for i := range p.Spec.Containers {
		each(&p.Spec.Containers[i], func(name string, amount int64) { out[name] += amount })
	}
	for name, amount := range before {
		out[name] = max(out[name]+beside[name], amount)
	}
	return out
}

// Group is the part of a policy that a VF belongs to, from the spec of the node's state.
func Group(s *v1.SriovNetworkNodeState, pf string, vf int) (v1.VfGroup, bool) {
	for _, i := range s.Spec.Interfaces {
		if i.PciAddress != pf {
			continue
		}
		for _, g := range i.VfGroups {
			var first, last int
			if n, err := fmt.Sscanf(g.VfRange, "%d-%d", &first, &last); n == 2 && err == nil && first <= vf && vf <= last {
				return g, true
			}
		}
	}
	return v1.VfGroup{}, false
}

// Taken is how much of a resource the pods of a node ask for.
func (inv *Inventory) Taken(node, resource string) int64 {
	var sum int64
	for i := range inv.Pods {
		if p := &inv.Pods[i]; p.Spec.NodeName == node && !ended(p) {
			sum += inv.Requests(p)[resource]
		}
	}
	return sum
}
