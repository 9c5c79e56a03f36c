// SPDX-License-Identifier: Apache-2.0

package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// SriovNetworkPoolConfigSpec groups nodes for draining and node-wide modes.
//
// +kubebuilder:validation:XValidation:rule="!has(self.ovsHardwareOffloadConfig) || !has(self.ovsHardwareOffloadConfig.name) || !(has(self.nodeSelector) || has(self.maxUnavailable) || has(self.rdmaMode))",message="ovsHardwareOffloadConfig excludes nodeSelector, maxUnavailable and rdmaMode"
type SriovNetworkPoolConfigSpec struct {
	// OvsHardwareOffloadConfig is accepted and not acted on.
	OvsHardwareOffloadConfig OvsHardwareOffloadConfig `json:"ovsHardwareOffloadConfig,omitempty,omitzero"`
	// NodeSelector of the pool; absent selects every node. A node belongs in one pool.
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
	// MaxUnavailable nodes at once, a number or "1%" to "100%" of the pool (rounded
	// down, at least one); absent means no limit.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^([0-9]{1,9}|([1-9]|[1-9][0-9]|100)%)$`
	// +kubebuilder:validation:XValidation:rule="type(self) != int || int(self) >= 0",message="maxUnavailable has to be 0 or more"
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable,omitempty"`
	// RdmaMode of the nodes: RDMA devices shared by all network namespaces, or not.
	// +kubebuilder:validation:Enum=shared;exclusive
	RdmaMode string `json:"rdmaMode,omitempty"`
}

// OvsHardwareOffloadConfig is accepted for compatibility.
type OvsHardwareOffloadConfig struct {
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
}

// SriovNetworkPoolConfigStatus of a pool.
type SriovNetworkPoolConfigStatus struct {
	// Nodes in the pool.
	Nodes int `json:"nodes,omitempty"`
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SriovNetworkPoolConfig limits how many of its nodes are drained at once.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=sriovnetworkpoolconfigs
// +kubebuilder:printcolumn:name="Max Unavailable",type=string,JSONPath=`.spec.maxUnavailable`
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.nodes`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type SriovNetworkPoolConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SriovNetworkPoolConfigSpec   `json:"spec,omitempty"`
	Status SriovNetworkPoolConfigStatus `json:"status,omitempty"`
}

// SriovNetworkPoolConfigList is a list of pools.
//
// +kubebuilder:object:root=true
type SriovNetworkPoolConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SriovNetworkPoolConfig `json:"items"`
}
