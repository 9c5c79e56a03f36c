// SPDX-License-Identifier: Apache-2.0

package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SriovNetworkNodeStateSpec is what one node has to look like. The operator writes
// it, the node's daemon makes it true.
type SriovNetworkNodeStateSpec struct {
	Interfaces []Interface `json:"interfaces,omitempty"`
	// Bridges is kept when found and not acted on, which the condition Planned says.
	Bridges Bridges `json:"bridges,omitempty,omitzero"`
	System  System  `json:"system,omitempty,omitzero"`
}

// Interface is the wanted state of one PF.
type Interface struct {
	PciAddress string `json:"pciAddress"`
	// Vendor, DeviceID and Mac (its permanent one) are those of the device that this was
	// planned for. Another device at the address is left alone. Empty is not compared.
	Vendor   string `json:"vendor,omitempty"`
	DeviceID string `json:"deviceID,omitempty"`
	Mac      string `json:"mac,omitempty"`
	NumVfs   int    `json:"numVfs,omitempty"`
	// Mtu the PF needs at least, bytes; 0 leaves it alone.
	Mtu  int    `json:"mtu,omitempty"`
	Name string `json:"name,omitempty"`
	// AltNames are further names by which policies select the PF: alternative names, and
	// those that it had when it was planned first.
	AltNames          []string  `json:"altNames,omitempty"`
	LinkType          string    `json:"linkType,omitempty"`
	EswitchMode       string    `json:"eSwitchMode,omitempty"`
	VfGroups          []VfGroup `json:"vfGroups,omitempty"`
	ExternallyManaged bool      `json:"externallyManaged,omitempty"`
}

// VfGroup is a range of VFs of one PF that belongs to one policy.
type VfGroup struct {
	ResourceName string `json:"resourceName,omitempty"`
	DeviceType   string `json:"deviceType,omitempty"`
	// VfRange is "first-last", VF indexes, inclusive.
	VfRange    string `json:"vfRange,omitempty"`
	PolicyName string `json:"policyName,omitempty"`
	Mtu        int    `json:"mtu,omitempty"`
	IsRdma     bool   `json:"isRdma,omitempty"`
	VdpaType   string `json:"vdpaType,omitempty"`
	// NeedVhostNet and ExcludeTopology travel with the group so that the node can
	// derive the device plugin's configuration from this object alone.
	NeedVhostNet    bool `json:"needVhostNet,omitempty"`
	ExcludeTopology bool `json:"excludeTopology,omitempty"`
}

// Bridges of a node, kept as found.
type Bridges struct {
	OVS []OVSConfigExt `json:"ovs,omitempty"`
}

// OVSConfigExt is one OVS bridge with its uplinks.
type OVSConfigExt struct {
	Name    string               `json:"name"`
	Bridge  OVSBridgeConfig      `json:"bridge,omitempty"`
	Uplinks []OVSUplinkConfigExt `json:"uplinks,omitempty"`
}

// OVSUplinkConfigExt is a PF inside a bridge.
type OVSUplinkConfigExt struct {
	PciAddress string             `json:"pciAddress"`
	Name       string             `json:"name,omitempty"`
	Interface  OVSInterfaceConfig `json:"interface,omitempty"`
}

// System is what holds for the whole node.
type System struct {
	// RdmaMode: RDMA devices are seen by all network namespaces or by one.
	// +kubebuilder:validation:Enum=shared;exclusive
	RdmaMode string `json:"rdmaMode,omitempty"`
}

// SriovNetworkNodeStateStatus is what the daemon found and how far it got.
type SriovNetworkNodeStateStatus struct {
	Interfaces []InterfaceExt `json:"interfaces,omitempty"`
	// Bridges is upstream's; never set.
	Bridges Bridges `json:"bridges,omitempty,omitzero"`
	System  System  `json:"system,omitempty,omitzero"`
	// SyncStatus: Succeeded, InProgress or Failed.
	SyncStatus    string `json:"syncStatus,omitempty"`
	LastSyncError string `json:"lastSyncError,omitempty"`
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// InterfaceExt is a PF as found; in a VM also a network function without a PF in
// sight, which lists itself as its only VF.
type InterfaceExt struct {
	Name string `json:"name,omitempty"`
	Mac  string `json:"mac,omitempty"`
	// PermanentMac is what the device itself says, also while it is in a bond.
	PermanentMac string `json:"permanentMac,omitempty"`
	Driver       string `json:"driver,omitempty"`
	PciAddress   string `json:"pciAddress"`
	Vendor       string `json:"vendor,omitempty"`
	DeviceID     string `json:"deviceID,omitempty"`
	// NetFilter is upstream's, of virtual machines; never set.
	NetFilter string `json:"netFilter,omitempty"`
	Mtu       int    `json:"mtu,omitempty"`
	NumVfs    int    `json:"numVfs,omitempty"`
	// LinkSpeed such as "10000 Mb/s"; empty while the link is down.
	LinkSpeed string `json:"linkSpeed,omitempty"`
	// LinkType ETH or IB.
	LinkType string `json:"linkType,omitempty"`
	// LinkAdminState up or down: what was asked for, not the carrier.
	LinkAdminState string `json:"linkAdminState,omitempty"`
	EswitchMode    string `json:"eSwitchMode,omitempty"`
	// ExternallyManaged is upstream's; never set. See the spec's field of that name.
	ExternallyManaged bool `json:"externallyManaged,omitempty"`
	// TotalVfs is sriov_totalvfs; 0 for a PF without SR-IOV.
	TotalVfs int               `json:"totalvfs,omitempty"`
	AltNames []string          `json:"altNames,omitempty"`
	VFs      []VirtualFunction `json:"Vfs,omitempty"`
}

// VirtualFunction is a VF as found. Name, Mac and Mtu are empty while its netdev is
// in a pod or has no kernel driver.
type VirtualFunction struct {
	Name string `json:"name,omitempty"`
	Mac  string `json:"mac,omitempty"`
	// Assigned is upstream's; never set.
	Assigned   string `json:"assigned,omitempty"`
	Driver     string `json:"driver,omitempty"`
	PciAddress string `json:"pciAddress"`
	Vendor     string `json:"vendor,omitempty"`
	DeviceID   string `json:"deviceID,omitempty"`
	// Vlan is upstream's; never set. The network of the pod that has the VF says its VLAN.
	Vlan            int    `json:"Vlan,omitempty"`
	Mtu             int    `json:"mtu,omitempty"`
	VfID            int    `json:"vfID"`
	VdpaType        string `json:"vdpaType,omitempty"`
	RepresentorName string `json:"representorName,omitempty"`
	GUID            string `json:"guid,omitempty"`
}

// Virtual reports a function without a PF in sight: its link cannot be managed from
// here, only its driver.
func (i *InterfaceExt) Virtual() bool {
	return len(i.VFs) == 1 && i.VFs[0].PciAddress == i.PciAddress
}

// SriovNetworkNodeState carries the name of its node, in the operator's namespace.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=sriovnetworknodestates
// +kubebuilder:printcolumn:name="Sync Status",type=string,JSONPath=`.status.syncStatus`
// +kubebuilder:printcolumn:name="Desired Sync State",type=string,JSONPath=`.metadata.annotations.sriovnetwork\.openshift\.io/desired-state`
// +kubebuilder:printcolumn:name="Current Sync State",type=string,JSONPath=`.metadata.annotations.sriovnetwork\.openshift\.io/current-state`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type SriovNetworkNodeState struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SriovNetworkNodeStateSpec   `json:"spec,omitempty"`
	Status SriovNetworkNodeStateStatus `json:"status,omitempty"`
}

// SriovNetworkNodeStateList is a list of node states.
//
// +kubebuilder:object:root=true
type SriovNetworkNodeStateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SriovNetworkNodeState `json:"items"`
}
