// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"slices"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// NodeSelector of the nodes that take part.
func NodeSelector(s *v1.SriovOperatorConfigSpec) map[string]string {
	if len(s.ConfigDaemonNodeSelector) > 0 {
		return s.ConfigDaemonNodeSelector
	}
	return map[string]string{"node-role.kubernetes.io/worker": "", "kubernetes.io/os": "linux"}
}

// Selected reports whether a node with these labels takes part.
func Selected(s *v1.SriovOperatorConfigSpec, labels map[string]string) bool {
	for k, v := range NodeSelector(s) {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// gates that are acted on. blockDevicePluginUntilConfigured and parallelNicConfig are how
// the device plugin and the daemon always work.
var gates = []string{GateMetrics, GateInjectorMatch, GateDRA, "blockDevicePluginUntilConfigured", "parallelNicConfig"}

// Ignored names the fields that are set and that nothing here acts on, sorted.
func Ignored(s *v1.SriovOperatorConfigSpec) []string {
	var ignored []string
	for field, set := range map[string]bool{
		"enableOvsOffload": s.EnableOvsOffload,
		"disablePlugins: there are no vendor plugins": len(s.DisablePlugins) > 0,
		"configurationMode systemd":                   s.ConfigurationMode == "systemd",
	} {
		if set {
			ignored = append(ignored, field)
		}
	}
	for gate, on := range s.FeatureGates {
		if on && !slices.Contains(gates, gate) {
			ignored = append(ignored, "featureGates: "+gate)
		}
	}
	slices.Sort(ignored)
	return ignored
}
