package plugin

import (
	"context"
	"fmt"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/sriovkit/sriovkit/multus-shim/plan"
	"github.com/sriovkit/sriovkit/multus-shim/podresources"
)

// devices returns the pod's devices for the resources that its networks use:
// from the kubelet, and from resource claims where that is not enough. Nothing
// is asked when no network uses a resource.
func (c *call) devices(ctx context.Context, p *pod, networks []plan.Network) (plan.Devices, error) {
	need := map[string]int{}
	for _, n := range networks {
		if n.Resource != "" {
			need[n.Resource]++
		}
	}
	if len(need) == 0 {
		return nil, nil
	}
	devices, kubeletErr := podresources.Devices(ctx, c.conf.KubeletDir, p.Pod)
	short := func() bool {
		for resource, n := range need {
			if len(devices[resource]) < n {
				return true
			}
		}
		return false
	}
	if !short() {
		return devices, nil
	}
	if err := c.readPod(ctx, p); err != nil {
		return nil, fmt.Errorf("resource claims: %w", err)
	}
	if p.object != nil && len(p.object.Status.ResourceClaims) > 0 {
		claimed, err := c.client.ClaimedDevices(ctx, p.object)
		if err != nil {
			return nil, coded(types.ErrTryAgainLater, err)
		}
		if devices == nil {
			devices = map[string][]string{}
		}
		for resource, ids := range claimed {
			slices.Sort(ids)
			devices[resource] = append(devices[resource], ids...)
		}
	}
	if kubeletErr != nil && short() {
		return nil, coded(types.ErrTryAgainLater, kubeletErr)
	}
	return devices, nil // plan names the network that goes without
}
