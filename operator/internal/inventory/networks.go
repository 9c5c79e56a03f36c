// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"encoding/json"
	"strings"

	corev1 "k8s.io/api/core/v1"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
)

// Selected is a network that a pod asks for.
type Selected struct{ Namespace, Name string }

func (s Selected) String() string { return s.Namespace + "/" + s.Name }

// Selections reads the networks that a pod asks for, in both forms of the annotation
// (https://github.com/k8snetworkplumbingwg/multi-net-spec, section 4).
func Selections(p *corev1.Pod) ([]Selected, error) {
	text := p.Annotations[v1.AnnotationNetworks]
	var out []Selected
	if strings.ContainsAny(text, `[{"`) {
		var entries []struct{ Name, Namespace string }
		if err := json.Unmarshal([]byte(text), &entries); err != nil {
			return nil, err
		}
		for _, e := range entries {
			out = append(out, Selected{e.Namespace, e.Name})
		}
	} else {
		for item := range strings.SplitSeq(text, ",") {
			name, _, _ := strings.Cut(strings.TrimSpace(item), "@")
			if namespace, rest, ok := strings.Cut(name, "/"); ok {
				out = append(out, Selected{namespace, rest})
			} else if name != "" {
				out = append(out, Selected{"", name})
			}
		}
	}
	for i := range out {
		if out[i].Namespace == "" {
			out[i].Namespace = p.Namespace
		}
	}
	return out, nil
}

// Attachment returns the NetworkAttachmentDefinition of a selection, if it was seen.
func (inv *Inventory) Attachment(s Selected) *nad.NetworkAttachmentDefinition {
	for i := range inv.Attachments {
		if a := &inv.Attachments[i]; a.Namespace == s.Namespace && a.Name == s.Name {
			return a
		}
	}
	return nil
}

// VLAN is what the configuration of a network, "namespace/name", asks for; 0 is none.
func (inv *Inventory) VLAN(network string) int {
	namespace, name, _ := strings.Cut(network, "/")
	a := inv.Attachment(Selected{namespace, name})
	if a == nil {
		return 0
	}
	type plugin struct {
		Type string `json:"type"`
		VLAN int    `json:"vlan"`
	}
	var conf struct {
		plugin
		Plugins []plugin `json:"plugins"`
	}
	if json.Unmarshal([]byte(a.Spec.Config), &conf) != nil {
		return 0
	}
	for _, p := range append(conf.Plugins, conf.plugin) {
		if p.Type == "sriov" {
			return p.VLAN
		}
	}
	return 0
}
