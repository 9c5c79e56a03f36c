// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"time"

	"k8s.io/dynamic-resource-allocation/kubeletplugin"
)

// healthPeriod is how often health is reported though nothing changed. Kubelet takes
// what is 30 s old for unknown.
const healthPeriod = 15 * time.Second

// WatchHealthStatus implements kubeletplugin.DRAPlugin.
func (d *Driver) WatchHealthStatus(ctx context.Context, reports chan<- kubeletplugin.DeviceHealthReport) error {
	ticker := time.NewTicker(healthPeriod)
	defer ticker.Stop()
	for {
		report, changed := d.healthReport(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case reports <- report:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-ticker.C:
		}
	}
}

// healthReport is the health of all devices now, and a channel that is closed when that
// has changed.
func (d *Driver) healthReport(now time.Time) (kubeletplugin.DeviceHealthReport, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out kubeletplugin.DeviceHealthReport
	for _, h := range d.health {
		status := kubeletplugin.HealthStatusHealthy
		if h.Unhealthy != "" {
			status = kubeletplugin.HealthStatusUnhealthy
		}
		out.Devices = append(out.Devices, kubeletplugin.DeviceHealth{
			PoolName: d.opts.Node, DeviceName: h.Device, Health: status, LastUpdated: now, Message: h.Unhealthy,
		})
	}
	return out, d.changed
}
