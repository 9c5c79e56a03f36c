// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// PoolMode returns how a pool wants its nodes' VFs to be offered to pods:
// v1.ResourceModeDRA, v1.ResourceModeDevicePlugin, or "" for the cluster's default.
func PoolMode(p *v1.SriovNetworkPoolConfig) (string, error) {
	switch mode, ok := p.Annotations[v1.LabelResourceMode]; {
	case !ok:
		return "", nil
	case mode == v1.ResourceModeDRA || mode == v1.ResourceModeDevicePlugin:
		return mode, nil
	default:
		return "", fmt.Errorf("annotation %s %.64q: want %s or %s; until then the mode of the pool's nodes stays as it is",
			v1.LabelResourceMode, mode, v1.ResourceModeDRA, v1.ResourceModeDevicePlugin)
	}
}

// NodeMode returns the mode of a node that is in these pools. It is unknown if the pools
// contradict each other or a pool's annotation is invalid; the caller then changes nothing.
func NodeMode(pools []*v1.SriovNetworkPoolConfig, byDefault string) (mode string, known bool) {
	for _, p := range pools {
		m, err := PoolMode(p)
		if err != nil {
			return "", false
		}
		if m == "" {
			m = byDefault
		}
		if mode != "" && m != mode {
			return "", false
		}
		mode = m
	}
	if mode == "" {
		mode = byDefault
	}
	return mode, true
}

// MaxResourceName is the most bytes that a resource name may have with its prefix: a
// ResourceSlice carries it in a string attribute (DeviceAttributeMaxValueLength in
// k8s.io/api/resource/v1).
const MaxResourceName = 64

// CheckDRAName returns an error if the resource's name is too long to be offered through DRA.
func CheckDRAName(prefix, resource string) error {
	if full := prefix + "/" + resource; len(full) > MaxResourceName {
		return fmt.Errorf("resourceName %q: with the prefix, %q has %d bytes; dynamic resource allocation allows %d: choose a name that is %d shorter",
			resource, full, len(full), MaxResourceName, len(full)-MaxResourceName)
	}
	return nil
}
