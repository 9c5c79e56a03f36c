// SPDX-License-Identifier: Apache-2.0

package v1

// Names that existing clusters, dashboards and drain tools rely on.
const (
	// DefaultConfigName is the only SriovOperatorConfig that is honoured.
	DefaultConfigName = "default"

	// LabelDevicePlugin on a Node: Enabled when the node offers resources.
	LabelDevicePlugin   = "sriovnetwork.openshift.io/device-plugin"
	DevicePluginEnabled = "Enabled"
	// DevicePluginDisabled: the node takes part but no policy gives it VFs.
	DevicePluginDisabled = "Disabled"

	// DRADriver is the name under which claims find VFs, as with dra-driver-sriov.
	DRADriver = "sriovnetwork.k8snetworkplumbingwg.io"

	// LabelResourceMode on a Node chooses who offers its VFs: ResourceModeDRA is the DRA
	// driver, anything else, and no label, the device plugin. As an annotation of a
	// SriovNetworkPoolConfig it says so for the pool's nodes, whatever the default is.
	LabelResourceMode        = "sriovkit.io/resource-mode"
	ResourceModeDRA          = "dra"
	ResourceModeDevicePlugin = "device-plugin"
	// ResourceModeLeaving on a Node that is to go back to the device plugin: the DRA driver
	// offers nothing any more and prepares what is allocated already. The device plugin is
	// not there yet.
	ResourceModeLeaving = "dra-leaving"
	// ResourceModeRest follows it: the device plugin offers what no claim has, and the DRA
	// driver stays for the pods that have claims, and prepares no other.
	ResourceModeRest = "dra-rest"
	// AnnotationModeSet on a Node ("true"): the operator set LabelResourceMode and takes it
	// away again; without it an admin did.
	AnnotationModeSet = "sriovkit.io/resource-mode-by-operator"

	// AnnotationNodeState on a Node mirrors what its daemon asks for.
	AnnotationNodeState = "sriovnetwork.openshift.io/state"
	// AnnotationDesiredState on a NodeState is the daemon's request (DrainIdle,
	// DrainRequired, RebootRequired).
	AnnotationDesiredState = "sriovnetwork.openshift.io/desired-state"
	// AnnotationCurrentState on a NodeState is the operator's answer (DrainIdle,
	// Draining, DrainComplete).
	AnnotationCurrentState = "sriovnetwork.openshift.io/current-state"
	// AnnotationDrainRequest on a NodeState numbers the daemon's wishes for a drain: it
	// rises with every new one. AnnotationDrainAnswer is the number of the wish that
	// DrainComplete answers, so that a permission cannot outlive the drain it was given in.
	// Both are absent where an external drainer or an older daemon takes part.
	AnnotationDrainRequest = "sriovnetwork.openshift.io/drain-request"
	AnnotationDrainAnswer  = "sriovnetwork.openshift.io/drain-answer"
	// AnnotationDrainVFs on a NodeState: PCI addresses, separated by commas, of the VFs in
	// use that the daemon's change would disturb. Absent means any of them may be.
	AnnotationDrainVFs = "sriovnetwork.openshift.io/drain-vfs"
	// AnnotationDrainPods on a NodeState: the pods, as namespace/name, or by UID where the
	// kubelet tells no name, separated by commas, that hold those VFs as the kubelet says, by
	// whatever resource or claim. They leave in the drain, and what still holds a VF after it
	// is a pod that no drain can remove.
	AnnotationDrainPods = "sriovnetwork.openshift.io/drain-pods"
	// AnnotationPodsAsked on a NodeState: UIDs, separated by commas, of pods that the kubelet has
	// given VFs and that have not begun, or have ended: the daemon cannot tell. The operator
	// answers in AnnotationPodsAnswer with UID=PodHere or UID=PodGone for each. Behind the pods
	// stands a mark, "#" and Unix milliseconds, which tells a question from one before about the
	// same pods; the answer has it too, as "#...=here".
	AnnotationPodsAsked  = "sriovnetwork.openshift.io/pods-asked"
	AnnotationPodsAnswer = "sriovnetwork.openshift.io/pods-answer"
	// AnnotationExternalDrainer on a NodeState ("true") leaves draining to a third
	// party that speaks the same annotations.
	AnnotationExternalDrainer = "sriovnetwork.openshift.io/use-external-drainer"
	// AnnotationKeepUntil on a NodeState whose node went away: RFC 3339 time after
	// which it is deleted.
	AnnotationKeepUntil = "sriovnetwork.openshift.io/keep-state-until"
	// AnnotationPlanned on a NodeState ("true"): the operator has planned from what
	// this node's daemon reported, so an empty spec means "no VFs wanted" and not
	// "not looked at yet". Without it the daemon takes nothing away.
	AnnotationPlanned = "sriovnetwork.openshift.io/planned"
	// AnnotationPlannedPFs on a NodeState: PCI addresses, separated by commas, of the network
	// functions that the daemon had reported when the operator planned. That a plan says
	// nothing of another one means that nobody has looked at it, not that it is not wanted.
	AnnotationPlannedPFs = "sriovnetwork.openshift.io/planned-pfs"
	// AnnotationCordoned on a Node: the operator cordoned it and will undo just that.
	AnnotationCordoned = "sriovnetwork.openshift.io/cordoned-by-operator"

	// AnnotationResourceName on a NetworkAttachmentDefinition.
	AnnotationResourceName = "k8s.v1.cni.cncf.io/resourceName"
	// AnnotationNodeSelector on a NetworkAttachmentDefinition: the label, key=value, of
	// the nodes that have the network.
	AnnotationNodeSelector = "k8s.v1.cni.cncf.io/nodeSelector"
	// AnnotationNetworks and AnnotationDefaultNetwork on a Pod select networks.
	AnnotationNetworks       = "k8s.v1.cni.cncf.io/networks"
	AnnotationDefaultNetwork = "v1.multus-cni.io/default-network"
	// AnnotationOwnerRef on a NetworkAttachmentDefinition: Kind.group/namespace/name.
	AnnotationOwnerRef = "sriovnetwork.openshift.io/owner-ref"

	// AnnotationAllowedResources on a Namespace: names of resources, without prefix, separated
	// by commas. The networks in the namespace may name no others; absent means any.
	AnnotationAllowedResources = "sriovnetwork.openshift.io/allowed-resources"
	// AnnotationAllowedPlugins on a Namespace: types of CNI and IPAM plugins, separated by
	// commas, that networks in it may name; absent are all but those that take devices.
	AnnotationAllowedPlugins = "sriovnetwork.openshift.io/allowed-plugins"

	// FinalizerNetwork and FinalizerConfig were set by the upstream operator;
	// sriovkit sets none and removes these where it meets them.
	FinalizerNetwork = "netattdef.finalizers.sriovnetwork.openshift.io"
	FinalizerConfig  = "operatorconfig.finalizers.sriovnetwork.openshift.io"
)

// Values of the drain annotations.
const (
	DrainIdle      = "Idle"
	DrainRequired  = "Drain_Required"
	RebootRequired = "Reboot_Required"
	Draining       = "Draining"
	DrainComplete  = "DrainComplete"
)

// Values of AnnotationPodsAnswer. A pod that is gone does not come back.
const (
	PodHere = "here"
	PodGone = "gone"
)

// Values of SriovNetworkNodeStateStatus.SyncStatus.
const (
	SyncSucceeded  = "Succeeded"
	SyncInProgress = "InProgress"
	SyncFailed     = "Failed"
)

// Values of deviceType, vdpaType, link types and eswitch modes.
const (
	DeviceTypeNetDevice = "netdevice"
	DeviceTypeVFIO      = "vfio-pci"

	VdpaTypeVirtio = "virtio"
	VdpaTypeVhost  = "vhost"

	LinkTypeETH = "ETH"
	LinkTypeIB  = "IB"

	EswitchLegacy    = "legacy"
	EswitchSwitchdev = "switchdev"
)
