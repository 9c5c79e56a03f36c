// SPDX-License-Identifier: Apache-2.0

package nad

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion of NetworkAttachmentDefinition, a CRD of the Network Plumbing WG.
var GroupVersion = schema.GroupVersion{Group: "k8s.cni.cncf.io", Version: "v1"}

// NetworkAttachmentDefinition is the kind as far as the operator writes it.
type NetworkAttachmentDefinition struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec Spec `json:"spec"`
}

// Spec of a NetworkAttachmentDefinition.
type Spec struct {
	// Config is a CNI configuration or configuration list.
	Config string `json:"config,omitempty"`
}

// NetworkAttachmentDefinitionList is a list of them.
type NetworkAttachmentDefinitionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NetworkAttachmentDefinition `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (n *NetworkAttachmentDefinition) DeepCopyObject() runtime.Object {
	c := *n
	c.ObjectMeta = *n.ObjectMeta.DeepCopy() //nolint:staticcheck // says which part is copied
	return &c
}

// DeepCopyObject implements runtime.Object.
func (l *NetworkAttachmentDefinitionList) DeepCopyObject() runtime.Object {
	c := *l
	c.ListMeta = *l.ListMeta.DeepCopy() //nolint:staticcheck // says which part is copied
	c.Items = make([]NetworkAttachmentDefinition, len(l.Items))
	for i := range l.Items {
		c.Items[i] = *l.Items[i].DeepCopyObject().(*NetworkAttachmentDefinition)
	}
	return &c
}

// AddToScheme registers both.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &NetworkAttachmentDefinition{}, &NetworkAttachmentDefinitionList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
