// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
	"github.com/sriovkit/sriovkit/device-plugin/traffic"
)

// Traffic is the collector of the metrics of VFs.
func (p *Plugin) Traffic() prometheus.Collector {
	return traffic.Collector{
		Devices: p.inventory.Devices, Captured: p.opts.Captured, Resource: p.knows, Log: p.log,
		Holders: func(ctx context.Context) ([]kubelet.Holder, error) {
			return kubelet.Holders(ctx, p.opts.PodResources, p.opts.Self)
		},
	}
}

// knows names the resource that a container has a device of: one of this plugin's or, of a
// device that it has through a claim, the name of the claim's driver. ours is false for
// hardware of another plugin.
func (p *Plugin) knows(h kubelet.Holder) (resource string, ours bool) {
	if h.Claim != "" {
		for _, d := range p.inventory.Devices() {
			if d.ID == h.Device {
				return h.Driver, true
			}
		}
		return "", false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.serving {
		if e.Resource() == h.Resource {
			return h.Resource.String(), true
		}
	}
	return "", false
}
