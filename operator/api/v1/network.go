// SPDX-License-Identifier: Apache-2.0

package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SriovNetworkSpec becomes a NetworkAttachmentDefinition for the sriov CNI plugin.
//
// +kubebuilder:validation:XValidation:rule="!has(self.minTxRate) || !has(self.maxTxRate) || self.maxTxRate == 0 || self.minTxRate <= self.maxTxRate",message="minTxRate has to be at most maxTxRate"
type SriovNetworkSpec struct {
	// NetworkNamespace of the NetworkAttachmentDefinition; empty means this object's
	// own. Only allowed in the operator's namespace.
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$`
	// +kubebuilder:validation:MaxLength=63
	NetworkNamespace string `json:"networkNamespace,omitempty"`
	// ResourceName of the policy whose VFs this network uses.
	// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?$`
	// +kubebuilder:validation:MaxLength=63
	ResourceName string `json:"resourceName"`
	// Capabilities of the plugin, a JSON object of booleans: {"mac": true, "ips": true}.
	// +kubebuilder:validation:MaxLength=16384
	Capabilities string `json:"capabilities,omitempty"`
	// IPAM section, a JSON object.
	// +kubebuilder:validation:MaxLength=16384
	IPAM string `json:"ipam,omitempty"`
	// Vlan tag, 0 to 4094; 0 is untagged.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4094
	Vlan int `json:"vlan,omitempty"`
	// VlanQoS is the priority of the tag, 0 to 7.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=7
	VlanQoS int `json:"vlanQoS,omitempty"`
	// VlanProto of the tag; empty means 802.1q.
	// +kubebuilder:validation:Enum="802.1q";"802.1Q";"802.1ad";"802.1AD"
	VlanProto string `json:"vlanProto,omitempty"`
	// SpoofChk: the NIC drops frames with a foreign source MAC.
	// +kubebuilder:validation:Enum=on;off
	SpoofChk string `json:"spoofChk,omitempty"`
	// Trust lets the VF change its MAC and go promiscuous.
	// +kubebuilder:validation:Enum=on;off
	Trust string `json:"trust,omitempty"`
	// LinkState of the VF: follow the port, or forced.
	// +kubebuilder:validation:Enum=auto;enable;disable
	LinkState string `json:"linkState,omitempty"`
	// MinTxRate guaranteed, Mbit/s; 0 removes it.
	// +kubebuilder:validation:Minimum=0
	MinTxRate *int `json:"minTxRate,omitempty"`
	// MaxTxRate cap, Mbit/s; 0 removes it.
	// +kubebuilder:validation:Minimum=0
	MaxTxRate *int `json:"maxTxRate,omitempty"`
	// Mtu of the VF in the pod, bytes; 0 leaves it as the policy says.
	// +kubebuilder:validation:XValidation:rule="self == 0 || self >= 68",message="mtu has to be 68 to 65535, or 0"
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	Mtu int `json:"mtu,omitempty"`
	// MetaPlugins chained after sriov: JSON objects with a "type", separated by commas.
	// +kubebuilder:validation:MaxLength=16384
	MetaPluginsConfig string `json:"metaPlugins,omitempty"`
	// LogLevel of the CNI plugin.
	// +kubebuilder:validation:Enum=panic;error;warning;info;debug;""
	// +kubebuilder:default=info
	LogLevel string `json:"logLevel,omitempty"`
	// LogFile of the CNI plugin, a path on the node. Outside of the operator's namespace it
	// is left out.
	// +kubebuilder:validation:MaxLength=4096
	LogFile string `json:"logFile,omitempty"`
}

// NetworkStatus of the three network kinds.
type NetworkStatus struct {
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SriovNetwork is an Ethernet network over VFs.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=sriovnetworks
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type SriovNetwork struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SriovNetworkSpec `json:"spec,omitempty"`
	Status NetworkStatus    `json:"status,omitempty"`
}

// SriovNetworkList is a list of networks.
//
// +kubebuilder:object:root=true
type SriovNetworkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SriovNetwork `json:"items"`
}

// SriovIBNetworkSpec becomes a NetworkAttachmentDefinition for the ib-sriov plugin.
type SriovIBNetworkSpec struct {
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$`
	// +kubebuilder:validation:MaxLength=63
	NetworkNamespace string `json:"networkNamespace,omitempty"`
	// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?$`
	// +kubebuilder:validation:MaxLength=63
	ResourceName string `json:"resourceName"`
	// Capabilities of the plugin, a JSON object of booleans: {"infinibandGUID": true}.
	// +kubebuilder:validation:MaxLength=16384
	Capabilities string `json:"capabilities,omitempty"`
	// IPAM section, a JSON object.
	// +kubebuilder:validation:MaxLength=16384
	IPAM string `json:"ipam,omitempty"`
	// +kubebuilder:validation:Enum=auto;enable;disable
	LinkState string `json:"linkState,omitempty"`
	// MetaPlugins chained after ib-sriov, separated by commas.
	// +kubebuilder:validation:MaxLength=16384
	MetaPluginsConfig string `json:"metaPlugins,omitempty"`
}

// SriovIBNetwork is an InfiniBand network over VFs.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=sriovibnetworks
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type SriovIBNetwork struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SriovIBNetworkSpec `json:"spec,omitempty"`
	Status NetworkStatus      `json:"status,omitempty"`
}

// SriovIBNetworkList is a list of InfiniBand networks.
//
// +kubebuilder:object:root=true
type SriovIBNetworkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SriovIBNetwork `json:"items"`
}

// OVSNetworkSpec becomes a NetworkAttachmentDefinition for the ovs plugin.
type OVSNetworkSpec struct {
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$`
	// +kubebuilder:validation:MaxLength=63
	NetworkNamespace string `json:"networkNamespace,omitempty"`
	// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?$`
	// +kubebuilder:validation:MaxLength=63
	ResourceName string `json:"resourceName"`
	// Capabilities of the plugin, a JSON object of booleans.
	// +kubebuilder:validation:MaxLength=16384
	Capabilities string `json:"capabilities,omitempty"`
	// IPAM section, a JSON object.
	// +kubebuilder:validation:MaxLength=16384
	IPAM string `json:"ipam,omitempty"`
	// MetaPlugins chained after ovs, separated by commas.
	// +kubebuilder:validation:MaxLength=16384
	MetaPluginsConfig string `json:"metaPlugins,omitempty"`
	// Bridge name; empty lets the plugin find it from the VF's uplink.
	// +kubebuilder:validation:MaxLength=256
	Bridge string `json:"bridge,omitempty"`
	// Vlan tag, 0 to 4095.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4095
	Vlan uint `json:"vlan,omitempty"`
	// MTU of the port, bytes.
	MTU uint `json:"mtu,omitempty"`
	// Trunk VLANs of the port.
	// +kubebuilder:validation:MaxItems=4096
	Trunk []*TrunkConfig `json:"trunk,omitempty"`
	// InterfaceType of the OVS port.
	// +kubebuilder:validation:MaxLength=256
	InterfaceType string `json:"interfaceType,omitempty"`
}

// TrunkConfig is one VLAN or a range of them, 0 to 4095.
//
// +kubebuilder:validation:XValidation:rule="[has(self.minID) ? self.minID : 0, has(self.maxID) ? self.maxID : 0, has(self.id) ? self.id : 0].all(n, n >= 0 && n <= 4095)",message="minID, maxID and id are VLANs, 0 to 4095"
type TrunkConfig struct {
	// MinID is the first of a range, 0 to 4095.
	MinID *uint `json:"minID,omitempty"`
	// MaxID is the last of a range, 0 to 4095.
	MaxID *uint `json:"maxID,omitempty"`
	// ID of one VLAN, 0 to 4095.
	ID *uint `json:"id,omitempty"`
}

// OVSNetwork is a network over VF representors in an OVS bridge.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=ovsnetworks
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type OVSNetwork struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   OVSNetworkSpec `json:"spec,omitempty"`
	Status NetworkStatus  `json:"status,omitempty"`
}

// OVSNetworkList is a list of OVS networks.
//
// +kubebuilder:object:root=true
type OVSNetworkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []OVSNetwork `json:"items"`
}
