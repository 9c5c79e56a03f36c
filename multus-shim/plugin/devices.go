// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/sriovkit/sriovkit/multus-shim/plan"
	"github.com/sriovkit/sriovkit/multus-shim/podresources"
)

// devices returns the pod's devices: from the kubelet, and where those are not enough for
// the networks from resource claims, and from the kubelet's checkpoint for those that init
// containers have. Nothing is asked when no network uses a resource and no selection names
// a device.
func (c *call) devices(ctx context.Context, p *pod, networks []plan.Network) (plan.Devices, error) {
	need, named := map[string]int{}, []string{}
	for _, n := range networks {
		if n.Device != "" {
			continue // a claim gives it
		}
		if n.Resource != "" {
			need[n.Resource]++
		} else if id := n.Selection.DeviceID; id != "" && !c.conf.Policy.AnyDevice {
			named = append(named, id)
		}
	}
	if len(need)+len(named) == 0 {
		return nil, nil
	}
	found, kubeletErr := podresources.Devices(ctx, c.conf.KubeletDir, p.Pod)
	devices := plan.Devices(found.Devices)
	if len(need) == 0 && errors.Is(kubeletErr, fs.ErrNotExist) {
		c.log.Warn("devices of the selection are not checked: there is no kubelet that gives any (kubeletDir)", "err", kubeletErr)
		c.conf.Policy.AnyDevice = true
		return nil, nil
	}
	short := func() bool {
		for resource, n := range need {
			if len(devices[resource]) < n {
				return true
			}
		}
		return slices.ContainsFunc(named, func(id string) bool { return !devices.Holds(id) })
	}
	if !short() {
		return devices, nil
	}
	claimed, err := c.claimedDevices(ctx, p, found.Claims)
	if err != nil {
		return nil, coded(types.ErrTryAgainLater, fmt.Errorf("resource claims: %w", err))
	}
	if devices == nil {
		devices = plan.Devices{}
	}
	for resource, ids := range claimed {
		slices.Sort(ids)
		devices[resource] = append(devices[resource], slices.Compact(ids)...)
	}
	if short() {
		// A network may also name a resource that nobody plugs devices for: no checkpoint is no
		// reason to do without it.
		given, err := podresources.Checkpointed(c.conf.KubeletDir, p.Pod)
		if err != nil {
			c.log.Warn("devices of init containers are not known", "err", err)
		}
		for resource, ids := range given {
			for _, id := range ids {
				if !devices.Holds(id) { // containers of a pod pass theirs on
					devices[resource] = append(devices[resource], id)
				}
			}
		}
	}
	if kubeletErr != nil && short() {
		return nil, coded(types.ErrTryAgainLater, kubeletErr)
	}
	return devices, nil // plan names the network that goes without
}
