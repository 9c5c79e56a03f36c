// SPDX-License-Identifier: Apache-2.0

package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DefaultPriority is what an absent priority means: the lowest.
const DefaultPriority = 99

// SriovNetworkNodePolicySpec says which PFs of which nodes get how many VFs, and
// under which resource name pods find them.
//
// +kubebuilder:validation:XValidation:rule="!has(self.nicSelector.pfNames) || self.nicSelector.pfNames.all(n, !n.matches('^[^#]*#[0-9]{1,4}-[0-9]{1,4}$') || int(n.split('#')[1].split('-')[0]) <= int(n.split('#')[1].split('-')[1]))",message="nicSelector.pfNames: a VF range counts upwards: name#first-last"
// +kubebuilder:validation:XValidation:rule="!has(self.nicSelector.pfNames) || self.nicSelector.pfNames.all(n, !n.matches('^[^#]*#[0-9]{1,4}-[0-9]{1,4}$') || int(n.split('#')[1].split('-')[1]) < self.numVfs)",message="nicSelector.pfNames: the last VF of a range has to be below numVfs"
// +kubebuilder:validation:XValidation:rule="!(has(self.deviceType) && self.deviceType == 'vfio-pci' && has(self.isRdma) && self.isRdma)",message="isRdma needs deviceType netdevice: a VF on vfio-pci has no RDMA device"
// +kubebuilder:validation:XValidation:rule="!has(self.vdpaType) || size(self.vdpaType) == 0 || ((!has(self.deviceType) || self.deviceType != 'vfio-pci') && !(has(self.isRdma) && self.isRdma))",message="vdpaType needs deviceType netdevice and no isRdma: a VF is one of the three"
// +kubebuilder:validation:XValidation:rule="!(has(self.eSwitchMode) && self.eSwitchMode == 'switchdev' && has(self.linkType) && self.linkType in ['ib', 'IB'])",message="eSwitchMode switchdev needs linkType eth"
// +kubebuilder:validation:XValidation:rule="!has(self.bridge) || !has(self.bridge.ovs) || (has(self.eSwitchMode) && self.eSwitchMode == 'switchdev' && !(has(self.externallyManaged) && self.externallyManaged))",message="bridge needs eSwitchMode switchdev and a PF that is not externallyManaged"
// +kubebuilder:validation:XValidation:rule="!has(self.nicSelector.netFilter) || size(self.nicSelector.netFilter) == 0 || !(has(self.nicSelector.vendor) || has(self.nicSelector.deviceID) || has(self.nicSelector.pfNames) || has(self.nicSelector.rootDevices) || has(self.eSwitchMode) || has(self.bridge) || (has(self.linkType) && self.linkType in ['ib', 'IB']))",message="nicSelector.netFilter stands alone: no vendor, deviceID, pfNames, rootDevices, eSwitchMode, bridge or linkType ib"
type SriovNetworkNodePolicySpec struct {
	// ResourceName is the extended resource without its prefix; several policies may
	// feed one resource.
	// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9]([a-zA-Z0-9_-]*[a-zA-Z0-9])?$`
	// +kubebuilder:validation:MaxLength=63
	ResourceName string `json:"resourceName"`
	// NodeSelector: labels a node must carry, all of them; {} selects every node.
	// +kubebuilder:validation:MaxProperties=256
	NodeSelector map[string]string `json:"nodeSelector"`
	// Priority 0 (highest) to 99 (lowest); absent means 99. Where policies overlap on
	// a VF the higher priority wins, and at equal priority the name that sorts last.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=99
	Priority *int `json:"priority,omitempty"`
	// MTU of the VFs, bytes; 0 leaves it alone. The PF is raised to it, never lowered.
	// +kubebuilder:validation:Minimum=1
	Mtu int `json:"mtu,omitempty"`
	// NumVfs to create on each selected PF.
	// +kubebuilder:validation:Minimum=0
	NumVfs int `json:"numVfs"`
	// NicSelector: all given fields have to match; an empty one selects nothing.
	NicSelector SriovNetworkNicSelector `json:"nicSelector"`
	// DeviceType is the driver of the VFs: netdevice (the kernel's own) or vfio-pci.
	// +kubebuilder:validation:Enum=netdevice;vfio-pci
	// +kubebuilder:default=netdevice
	DeviceType string `json:"deviceType,omitempty"`
	// IsRdma offers the RDMA devices of the VFs to the pod.
	IsRdma bool `json:"isRdma,omitempty"`
	// NeedVhostNet mounts /dev/vhost-net and /dev/net/tun into the pod.
	NeedVhostNet bool `json:"needVhostNet,omitempty"`
	// LinkType of the port, Ethernet or InfiniBand; empty takes either.
	// +kubebuilder:validation:Enum=eth;ETH;ib;IB
	LinkType string `json:"linkType,omitempty"`
	// EswitchMode of the PF; empty means legacy.
	// +kubebuilder:validation:Enum=legacy;switchdev
	EswitchMode string `json:"eSwitchMode,omitempty"`
	// VdpaType makes a vDPA device of each VF: virtio is an interface of the kernel's virtio
	// driver, vhost a character device, /dev/vhost-vdpa-N, for a process. The VFs' driver has to
	// offer them: mlx5_core does with eSwitchMode switchdev, virtio functions do by themselves.
	// +kubebuilder:validation:Enum=virtio;vhost
	VdpaType string `json:"vdpaType,omitempty"`
	// ExcludeTopology drops the NUMA hint of the resource.
	ExcludeTopology bool `json:"excludeTopology,omitempty"`
	// ExternallyManaged: somebody else creates the VFs; only drivers and MTU are set.
	ExternallyManaged bool `json:"externallyManaged,omitempty"`
	// Bridge to attach the uplink to. Accepted, not acted on.
	Bridge Bridge `json:"bridge,omitempty,omitzero"`
}

// SriovNetworkNicSelector selects PFs; the given fields are ANDed.
//
// Items of lists are judged by rules, not by patterns: the API server applies patterns to all
// items before it counts them, and compares each complaint with all others, so that 4,000 bad
// addresses would take it 10 s. Rules come after the count.
type SriovNetworkNicSelector struct {
	// Vendor id of the PF, four hex digits.
	// +kubebuilder:validation:Pattern=`^([0-9a-fA-F]{4})?$`
	Vendor string `json:"vendor,omitempty"`
	// DeviceID of the PF, four hex digits.
	// +kubebuilder:validation:Pattern=`^([0-9a-fA-F]{4})?$`
	DeviceID string `json:"deviceID,omitempty"`
	// RootDevices: PCI addresses of the PFs; in a VM, of the function itself.
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[01][0-9a-fA-F]\\\\.[0-7]$')",message="want a PCI address: domain:bus:device.function, as 0000:3b:00.0"
	RootDevices []string `json:"rootDevices,omitempty"`
	// PfNames: name or name#first-last (VF indexes, inclusive); the name or an
	// alternative name of the PF. Several ranges of one PF add up.
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=138
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[^#\\\\s/]{1,127}(#[0-9]{1,4}-[0-9]{1,4})?$')",message="want name or name#first-last, VF indexes of up to four digits"
	PfNames []string `json:"pfNames,omitempty"`
	// NetFilter: platform/NetworkID:value, compared with what the node state reports.
	// +kubebuilder:validation:MaxLength=256
	NetFilter string `json:"netFilter,omitempty"`
}

// Bridge is accepted for compatibility.
type Bridge struct {
	OVS *OVSConfig `json:"ovs,omitempty"`
}

// OVSConfig is accepted for compatibility.
type OVSConfig struct {
	Bridge OVSBridgeConfig `json:"bridge,omitempty"`
	Uplink OVSUplinkConfig `json:"uplink,omitempty"`
}

// OVSBridgeConfig mirrors the columns of an OVS Bridge record.
type OVSBridgeConfig struct {
	// +kubebuilder:validation:MaxLength=256
	DatapathType string `json:"datapathType,omitempty"`
	// +kubebuilder:validation:MaxProperties=256
	ExternalIDs map[string]string `json:"externalIDs,omitempty"`
	// +kubebuilder:validation:MaxProperties=256
	OtherConfig map[string]string `json:"otherConfig,omitempty"`
	// +kubebuilder:validation:Enum=secure;standalone
	FailMode string `json:"failMode,omitempty"`
}

// OVSUplinkConfig is the PF's end in the bridge.
type OVSUplinkConfig struct {
	Interface OVSInterfaceConfig `json:"interface,omitempty"`
}

// OVSInterfaceConfig mirrors the columns of an OVS Interface record.
type OVSInterfaceConfig struct {
	// +kubebuilder:validation:MaxLength=256
	Type string `json:"type,omitempty"`
	// +kubebuilder:validation:MaxProperties=256
	Options map[string]string `json:"options,omitempty"`
	// +kubebuilder:validation:MaxProperties=256
	ExternalIDs map[string]string `json:"externalIDs,omitempty"`
	// +kubebuilder:validation:MaxProperties=256
	OtherConfig map[string]string `json:"otherConfig,omitempty"`
	// +kubebuilder:validation:Minimum=1
	MTURequest *int `json:"mtuRequest,omitempty"`
}

// SriovNetworkNodePolicyStatus says where the policy stands.
type SriovNetworkNodePolicyStatus struct {
	// MatchedNodes: nodes on which at least one PF is selected.
	MatchedNodes int `json:"matchedNodes,omitempty"`
	// ReadyNodes: matched nodes whose daemon has applied the current spec.
	ReadyNodes int `json:"readyNodes,omitempty"`
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SriovNetworkNodePolicy is honoured in the operator's namespace only.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=sriovnetworknodepolicies
// +kubebuilder:printcolumn:name="Resource",type=string,JSONPath=`.spec.resourceName`
// +kubebuilder:printcolumn:name="VFs",type=integer,JSONPath=`.spec.numVfs`
// +kubebuilder:printcolumn:name="Matched",type=integer,JSONPath=`.status.matchedNodes`
// +kubebuilder:printcolumn:name="Ready",type=integer,JSONPath=`.status.readyNodes`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type SriovNetworkNodePolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SriovNetworkNodePolicySpec   `json:"spec,omitempty"`
	Status SriovNetworkNodePolicyStatus `json:"status,omitempty"`
}

// SriovNetworkNodePolicyList is a list of policies.
//
// +kubebuilder:object:root=true
type SriovNetworkNodePolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SriovNetworkNodePolicy `json:"items"`
}
