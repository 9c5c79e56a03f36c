// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"

	"github.com/sriovkit/sriovkit/device-plugin/dra/offer"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// askTaints finds out, by a slice that is not stored, whether the API server keeps the taints
// of devices: one that drops them would offer unhealthy devices as good ones until that is
// noticed. It is asked again with each watch of the Node, which ends when the API server is
// replaced. Without an answer it counts as before.
func (d *Driver) askTaints(ctx context.Context) {
	slice := &resourceapi.ResourceSlice{
		ObjectMeta: metav1.ObjectMeta{GenerateName: d.opts.Node + "-"},
		Spec: resourceapi.ResourceSliceSpec{
			Driver: d.opts.Name, NodeName: &d.opts.Node, Pool: resourceapi.ResourcePool{Name: d.opts.Node, Generation: 1, ResourceSliceCount: 1},
			Devices: []resourceapi.Device{{
				Name: "none", Taints: []resourceapi.DeviceTaint{{Key: offer.TaintUnusable, Effect: resourceapi.DeviceTaintEffectNoSchedule}},
			}},
		},
	}
	stored, err := d.opts.Client.ResourceV1().ResourceSlices().Create(ctx, slice, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil || len(stored.Spec.Devices) != 1 {
		d.log.Debug("it is not known whether the API server keeps device taints", "err", err)
		return
	}
	d.keepsTaints(len(stored.Spec.Devices[0].Taints) > 0)
}

// keepsTaints takes note of what the API server does with taints.
func (d *Driver) keepsTaints(keeps bool) {
	d.mu.Lock()
	changed := d.noTaints == keeps
	d.noTaints = !keeps
	d.mu.Unlock()
	switch {
	case !changed:
		return
	case keeps:
		d.log.Info("the API server keeps device taints now: unhealthy devices are published with one")
	default:
		d.log.Warn("the API server drops device taints (Kubernetes before 1.36, or the feature DRADeviceTaints is off): unhealthy devices are left out instead")
	}
	d.publish()
}
