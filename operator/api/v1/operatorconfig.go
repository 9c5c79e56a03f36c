// SPDX-License-Identifier: Apache-2.0

package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SriovOperatorConfigSpec configures the operator itself.
type SriovOperatorConfigSpec struct {
	// ConfigDaemonNodeSelector: labels of the nodes that take part; empty means
	// node-role.kubernetes.io/worker="" and Linux.
	// +kubebuilder:validation:MaxProperties=256
	ConfigDaemonNodeSelector map[string]string `json:"configDaemonNodeSelector,omitempty"`
	// EnableInjector adds to new pods the resources of the networks they ask for.
	EnableInjector bool `json:"enableInjector,omitempty"`
	// EnableOperatorWebhook judges policies, pools and networks when they are written.
	EnableOperatorWebhook bool `json:"enableOperatorWebhook,omitempty"`
	// LogLevel 0 (info) to 2 (everything), for the daemons.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2
	LogLevel int `json:"logLevel,omitempty"`
	// DisableDrain applies changes without evicting pods first.
	DisableDrain bool `json:"disableDrain,omitempty"`
	// EnableOvsOffload is accepted and has no effect.
	EnableOvsOffload bool `json:"enableOvsOffload,omitempty"`
	// ConfigurationMode: daemon; systemd is accepted and reported as unsupported.
	// +kubebuilder:validation:Enum=daemon;systemd
	ConfigurationMode string `json:"configurationMode,omitempty"`
	// UseCDI starts the device plugin in CDI mode.
	UseCDI bool `json:"useCDI,omitempty"`
	// DisablePlugins is accepted; there are no vendor plugins.
	// +kubebuilder:validation:items:Enum=mellanox
	// +kubebuilder:validation:MaxItems=16
	DisablePlugins []string `json:"disablePlugins,omitempty"`
	// FeatureGates by name: metricsExporter lets the device plugins serve metrics,
	// resourceInjectorMatchCondition makes the injector mandatory for pods that ask for
	// networks, dynamicResourceAllocation offers VFs by claims. Others are reported if on,
	// never refused.
	// +kubebuilder:validation:MaxProperties=256
	FeatureGates map[string]bool `json:"featureGates,omitempty"`
	// ConfigDaemonEnvVars are added to the daemon's environment.
	// +kubebuilder:validation:MaxProperties=256
	ConfigDaemonEnvVars map[string]string `json:"configDaemonEnvVars,omitempty"`
}

// SriovOperatorConfigStatus of the operator.
type SriovOperatorConfigStatus struct {
	// Injector is upstream's; never set.
	Injector string `json:"injector,omitempty"`
	// OperatorWebhook is upstream's; never set.
	OperatorWebhook string `json:"operatorWebhook,omitempty"`
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SriovOperatorConfig is honoured as "default" in the operator's namespace.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=sriovoperatorconfigs
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",message="the only SriovOperatorConfig that is honoured is named default"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type SriovOperatorConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SriovOperatorConfigSpec   `json:"spec,omitempty"`
	Status SriovOperatorConfigStatus `json:"status,omitempty"`
}

// SriovOperatorConfigList is a list of operator configurations.
//
// +kubebuilder:object:root=true
type SriovOperatorConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SriovOperatorConfig `json:"items"`
}
