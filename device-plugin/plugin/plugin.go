// SPDX-License-Identifier: Apache-2.0

// Package plugin serves resource pools to kubelet's device manager: an endpoint for each
// pool, its CDI specification, and the device-info files of what was given out. Which
// device is in which pool it is told by package inventory.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/sriovkit/sriovkit/device-plugin/allocation"
	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/inventory"
	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
	"github.com/sriovkit/sriovkit/device-plugin/metrics"
	"github.com/sriovkit/sriovkit/libsriov"
	"golang.org/x/sync/errgroup"
)

// Options say where everything is.
type Options struct {
	inventory.Options
	UseCDI        bool
	DevRoot       string // holds the directory dev
	CDIDir        string
	DeviceInfoDir string
}

// Plugin serves the pools of one node.
type Plugin struct {
	opts      Options
	log       *slog.Logger
	metrics   *metrics.Metrics
	inventory *inventory.Inventory
	host      allocation.Host
	cdi       *allocation.CDI // nil unless devices are handed out through CDI

	mu      sync.Mutex
	serving []*kubelet.Endpoint
	cdiErr  error
	// files is held for reading while a container gets its files, and for writing while
	// those that nobody needs are removed.
	files sync.RWMutex

	// Of the goroutine that runs the inventory.
	endpoints map[config.Resource]*endpoint
	watcher   *kubelet.Watcher
	cdiServed bool                     // kubelet passes CDI devices on
	retired   map[config.Resource]bool // pools that are no more, whose files may still be there
}

// New opens what the options name.
func New(opts Options, m *metrics.Metrics, log *slog.Logger) (*Plugin, error) {
	inv, err := inventory.New(opts.Options, m, log)
	if err != nil {
		return nil, err
	}
	host, err := libsriov.Open(opts.SysfsRoot)
	if err != nil {
		return nil, err
	}
	p := &Plugin{
		opts: opts, log: log, metrics: m, inventory: inv,
		host:      allocation.Host{Host: host, DevRoot: opts.DevRoot, RDMA: &allocation.RDMACache{}},
		endpoints: map[config.Resource]*endpoint{}, retired: map[config.Resource]bool{},
	}
	if opts.UseCDI {
		p.cdi = allocation.OpenCDI(opts.CDIDir)
	}
	return p, nil
}

// Run serves until ctx ends, and then withdraws every pool. It fails if the configuration is
// bad at the start, or if the kernel's notifications break.
func (p *Plugin) Run(ctx context.Context) error {
	var err error
	if p.watcher, err = kubelet.Watch(kubelet.Dirs(p.opts.KubeletDir)); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.watcher.Run(ctx) })
	group.Go(func() error {
		defer p.stop()
		return p.inventory.Run(ctx, p.apply)
	})
	return group.Wait()
}

// Healthy is nil unless the plugin hangs, which only a restart can mend.
func (p *Plugin) Healthy() error { return p.inventory.Healthy() }

// Ready returns nil if the configuration on disk is in force, kubelet watches every pool, and
// the files that containers need for the pools' devices could be written.
func (p *Plugin) Ready() error {
	if err := p.inventory.Ready(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	errs := []error{p.cdiErr}
	for _, e := range p.serving {
		if !e.Watched() {
			errs = append(errs, fmt.Errorf("kubelet does not watch %s yet", e.Resource()))
		}
	}
	return errors.Join(errs...)
}
