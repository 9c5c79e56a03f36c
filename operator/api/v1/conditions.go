// SPDX-License-Identifier: Apache-2.0

package v1

// Condition types. All are additive: a cluster without them works the same.
const (
	// ConditionReady of networks, operator config, node states and policies.
	ConditionReady = "Ready"
	// ConditionMatched of a policy: False with ReasonNoMatch while no PF is selected.
	ConditionMatched = "Matched"
	// ConditionPlanned of a node state: False while a policy cannot be honoured on
	// this node, or the plan not be written. Absent means no objection.
	ConditionPlanned = "Planned"
	// ConditionMode of a node state: False while the node is on its way from the DRA driver
	// back to the device plugin, with what it waits for. Absent where it never was.
	ConditionMode = "ResourceMode"
	// ConditionDrained of a node state: the state of the drain handshake.
	ConditionDrained = "Drained"
	// ConditionComplete of an operator config: False names the fields that are set
	// and that this operator does not act on.
	ConditionComplete = "AllFieldsHonoured"
	// ConditionDRA of an operator config, absent while nothing asks for dynamic resource
	// allocation: False names what it lacks. With ReasonDRANotServed every node stays with
	// the device plugin.
	ConditionDRA = "DynamicResourceAllocation"
)

// Reasons of conditions.
const (
	// Networks.
	ReasonNetworkReady      = "NetworkReady"
	ReasonNADInvalid        = "NetworkAttachmentDefinitionInvalid"
	ReasonNamespaceNotFound = "NamespaceNotFound"
	ReasonResourceForbidden = "ResourceNotAllowed"
	ReasonPluginForbidden   = "PluginNotAllowed"
	ReasonNADNotWritten     = "NetworkAttachmentDefinitionNotWritten"

	// Operator config.
	ReasonConfigReady       = "OperatorConfigReady"
	ReasonConfigSyncFailed  = "OperatorConfigSyncFailed"
	ReasonConfigUnsupported = "UnsupportedConfiguration"

	// ConditionDRA.
	ReasonDRAReady      = "DeviceClassesReady"
	ReasonDRAIncomplete = "DeviceClassesIncomplete"
	ReasonDRANotServed  = "APINotServed"

	// ConditionMode.
	ReasonLeavingDRA = "ClaimsInUse"
	ReasonModeSet    = "ModeSet"

	// Policies, and ConditionPlanned of node states.
	ReasonMatched    = "Matched"
	ReasonNoMatch    = "NoMatch"
	ReasonApplied    = "Applied"
	ReasonApplying   = "Applying"
	ReasonInvalid    = "Invalid"
	ReasonConflict   = "Conflict"
	ReasonOverridden = "Overridden"
	ReasonNodeFailed = "NodeFailed"
	ReasonNotWritten = "NotWritten"

	// Node states.
	ReasonSynced         = "Synced"
	ReasonWaitingDrain   = "WaitingForDrain"
	ReasonWaitingAnswer  = "WaitingForAnswer"
	ReasonApplyFailed    = "ApplyFailed"
	ReasonDiscoverFailed = "DiscoverFailed"
	ReasonWaitingPlan    = "WaitingForPlan"

	// ConditionDrained.
	ReasonDrainIdle     = "Idle"
	ReasonDrainQueued   = "WaitingForSlot"
	ReasonDraining      = "Evicting"
	ReasonDrainBlocked  = "EvictionBlocked"
	ReasonDrainComplete = "DrainComplete"

	// Pools.
	ReasonPoolReady   = "PoolReady"
	ReasonPoolOverlap = "PoolOverlap"
)
