// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// PoolMode is who a pool wants to offer its nodes' VFs, ResourceModeDRA or
// ResourceModeDevicePlugin; empty leaves it to the cluster's default.
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

// NodeMode is the mode of a node in these pools. It is not known if a pool's annotation
// makes no sense or pools contradict each other: then nothing is to change.
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

// MaxResourceName is the longest full name of a resource, bytes, that fits an attribute of a
// device of a ResourceSlice.
const MaxResourceName = 64

// CheckDRAName says why a resource cannot be offered by DRA.
func CheckDRAName(prefix, resource string) error {
	if full := prefix + "/" + resource; len(full) > MaxResourceName {
		return fmt.Errorf("resourceName %q: with the prefix, %q has %d bytes; dynamic resource allocation allows %d: choose a name that is %d shorter",
			resource, full, len(full), MaxResourceName, len(full)-MaxResourceName)
	}
	return nil
}
