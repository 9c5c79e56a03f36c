// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
	"github.com/sriovkit/sriovkit/device-plugin/metrics"
)

// noDevices is a resource that never has any. A node on which it was used lists it with 0.
var noDevices = config.Resource{Prefix: "sriovkit.io", Name: "no-devices"}

// reminder has kubelet write its device manager's checkpoint anew, which may name pods that
// have ended, or be damaged. Kubelet does so for every list of devices that it is sent
// (pkg/kubelet/cm/devicemanager/manager.go, genericDeviceUpdateRunning), and it alone knows
// which pods are over: those with a static manifest, those that were deleted by force and
// those that wait for their first sandbox look alike from outside. This list is empty.
type reminder struct {
	dirs    kubelet.Dirs
	metrics *metrics.Metrics
	log     *slog.Logger

	endpoint *kubelet.Endpoint // nil while nothing was in doubt
	group    sync.WaitGroup
}

// remind sends the list. The first call begins to serve, until ctx ends.
func (r *reminder) remind(ctx context.Context) {
	if r.endpoint == nil {
		w, err := kubelet.Watch(r.dirs)
		if err != nil {
			r.log.Warn("kubelet cannot be asked for a new checkpoint, and is asked again", "err", err)
			return
		}
		r.endpoint = kubelet.NewEndpoint(noDevices, r.dirs, w, r.metrics, r.log)
		r.group.Go(func() { r.endpoint.Run(ctx) })
		r.group.Go(func() {
			if err := w.Run(ctx); err != nil {
				r.log.Error("a new kubelet is not noticed by the list that has it write its checkpoint", "err", err)
			}
		})
	}
	r.endpoint.Publish(kubelet.Pool{Again: true})
}
