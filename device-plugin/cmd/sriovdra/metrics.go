// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sriovkit/sriovkit/device-plugin/command"
	"github.com/sriovkit/sriovkit/device-plugin/dra/driver"
	"github.com/sriovkit/sriovkit/device-plugin/inventory"
	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/device-plugin/traffic"
)

// serverPause is the pause before an address is tried again that another process has.
const serverPause = 5 * time.Second

// serveMetrics answers scrapes while the node's devices are this driver's: while it is leaving
// claims to their ends, the device plugin tells of them at the same address. An address that
// cannot be had is no reason to prepare no claims.
func serveMetrics(ctx context.Context, address string, registry *prometheus.Registry, d *driver.Driver, log *slog.Logger) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", command.Metrics(registry))
	server := command.Server{Flag: "-metrics-address", Address: address, Handler: mux}
	for ctx.Err() == nil {
		serves, changed := d.Serves()
		if !serves {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		serving, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- server.Run(serving, log) }()
		select {
		case <-ctx.Done():
		case <-changed:
		case err := <-ended:
			ended <- err
		}
		stop()
		if err := <-ended; err != nil {
			log.Error("metrics are not served; tried again", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(serverPause):
			}
		}
	}
	return nil
}

// vfTraffic tells what VFs do and which pods have them.
func vfTraffic(o inventory.Options, inv *inventory.Inventory, d *driver.Driver, log *slog.Logger) traffic.Collector {
	return traffic.Collector{
		Devices: inv.Devices, Captured: o.Captured, Log: log,
		Holders: func(ctx context.Context) ([]kubelet.Holder, error) {
			listed, err := kubelet.Holders(ctx, o.PodResources, o.Self)
			ours, unread := d.Holders()
			return holders(listed, ours, o.Driver, unread == nil), errors.Join(err, unread)
		},
		Resource: func(h kubelet.Holder) (string, bool) {
			known := slices.ContainsFunc(inv.Devices(), func(d pool.Device) bool { return d.ID == h.Device })
			if h.Resource.Name == "" {
				return h.Driver, known
			}
			return h.Resource.String(), known
		},
	}
}

// holders are the containers that kubelet lists with what they have, and of this driver's
// claims what records say: they name the resource, leave out what is only looked at, and have
// what kubelet does not list, such as claims of init containers.
func holders(listed, ours []kubelet.Holder, driver string, complete bool) (out []kubelet.Holder) {
	seen := map[int]bool{}
	for _, l := range listed {
		if l.Claim != "" && l.Driver == driver {
			i := slices.IndexFunc(ours, func(h kubelet.Holder) bool { return h.Claim == l.Claim && h.Device == l.Device })
			if i < 0 && complete {
				continue
			}
			if i >= 0 {
				seen[i], l.Resource = true, ours[i].Resource
			}
		}
		out = append(out, l)
	}
	for i := range ours {
		if !seen[i] {
			out = append(out, ours[i])
		}
	}
	return out
}
