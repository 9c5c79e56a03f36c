// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/sriovkit/sriovkit/device-plugin/allocation"
	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/inventory"
	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
)

// endpoint is a pool that is being served.
type endpoint struct {
	*kubelet.Endpoint
	members []pool.Member
	known   bool // its devices were published
	stop    context.CancelFunc
	stopped chan struct{}
}

// change is a pool as it is served and as it is to be served.
type change struct {
	allocation.CDIPool
	endpoint *endpoint
	grows    bool
	failed   error // of its CDI specification
}

// apply makes the served pools those of the inventory. Pools that are as before notice
// nothing. It asks to be called again soon while something is left to do.
func (p *Plugin) apply(ctx context.Context, s inventory.State) (again bool) {
	if !s.Known {
		for i, c := range s.Pools {
			e := p.endpoint(ctx, c.Resource)
			if s.Doubtful && i == 0 && !e.known {
				e.Publish(kubelet.Pool{Again: true})
			}
		}
		return false
	}
	p.removeOthers(s.Pools)
	changes := make([]change, len(s.Pools))
	var serving []*kubelet.Endpoint
	for i, c := range s.Pools {
		e := p.endpoint(ctx, c.Resource)
		serving = append(serving, e.Endpoint)
		changes[i] = change{CDIPool: p.allocator(c), endpoint: e, grows: len(c.Members) > len(e.members)}
	}
	p.mu.Lock()
	p.serving = serving
	p.mu.Unlock()
	again = p.specify(ctx, changes, s)
	// Pools that lose devices send their lists first, so that kubelet never has a device in two.
	slices.SortStableFunc(changes, func(a, b change) int {
		switch {
		case a.grows == b.grows:
			return 0
		case b.grows:
			return -1
		}
		return 1
	})
	for i := range changes {
		p.publish(&changes[i], s.Doubtful && i == 0)
	}
	if err := errors.Join(p.restoreInfo(changes, s), p.pruneInfo(s)); err != nil {
		p.log.Warn("device-info files", "err", err)
	}
	return again
}

// endpoint finds a pool's endpoint, or starts to serve a new one. Kubelet then knows the
// resource and waits for its devices.
func (p *Plugin) endpoint(ctx context.Context, r config.Resource) *endpoint {
	if e := p.endpoints[r]; e != nil {
		return e
	}
	e := &endpoint{Endpoint: kubelet.NewEndpoint(r, kubelet.Dirs(p.opts.KubeletDir), p.watcher, p.metrics, p.log), stopped: make(chan struct{})}
	p.endpoints[r] = e
	delete(p.retired, r)
	ctx, e.stop = context.WithCancel(ctx)
	go func() {
		defer close(e.stopped)
		e.Run(ctx)
	}()
	return e
}

func (p *Plugin) allocator(c inventory.Pool) allocation.CDIPool {
	a := allocation.Allocator{Host: p.host, Pool: c.Pool, DeviceInfo: p.opts.DeviceInfoDir, CDI: p.cdi}
	return allocation.CDIPool{Allocator: a, List: c.Members}
}

// errOldKubelet: what is handed out would reach no container.
var errOldKubelet = errors.New("-use-cdi needs kubelet 1.28 or newer; this one ignores CDI devices, so containers get no device nodes")

// specify writes the CDI specifications.
func (p *Plugin) specify(ctx context.Context, changes []change, s inventory.State) (again bool) {
	if p.cdi == nil {
		return false
	}
	pools := make([]allocation.CDIPool, len(changes))
	for i := range changes {
		pools[i] = changes[i].CDIPool
	}
	failed, err := p.cdi.Update(pools, func(r config.Resource, id string) bool {
		if !s.Asked {
			return true // who knows
		}
		h, held := p.inventory.Held(id)
		return held && h.Resource == r
	})
	if err != nil {
		p.log.Warn("CDI specifications of pools that are no more", "err", err)
	}
	errs := []error{}
	for i := range changes {
		r := changes[i].Pool.Resource
		changes[i].failed = failed[r]
		if failed[r] != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r, failed[r]))
		}
	}
	p.metrics.CDIErrors.Set(float64(len(errs)))
	if s.Asked && !p.cdiServed {
		old, err := kubelet.TooOldForCDI(ctx, p.opts.PodResources)
		p.cdiServed = err == nil && !old
		if old {
			errs = append(errs, errOldKubelet)
		}
	}
	now := errors.Join(errs...)
	p.mu.Lock()
	before := p.cdiErr
	p.cdiErr = now
	p.mu.Unlock()
	if now != nil && (before == nil || before.Error() != now.Error()) {
		p.log.Error("containers would not get their devices through CDI", "err", now)
	}
	return now != nil || p.cdi.Leftovers(pools)
}

// publish tells kubelet of one pool; again does so though nothing has changed.
func (p *Plugin) publish(c *change, again bool) {
	e, members := c.endpoint, c.List
	if c.failed != nil {
		members = slices.Clone(members)
		for i := range members {
			members[i].Unhealthy = c.failed.Error()
		}
	}
	p.report(c.Pool, e, members)
	devices := make([]kubelet.Device, len(members))
	healthy := 0
	for i, m := range members {
		devices[i] = kubelet.Device{ID: m.ID, Healthy: m.Unhealthy == "", NUMA: m.NUMANode}
		if c.Pool.ExcludeTopology {
			devices[i].NUMA = -1
		}
		if m.Unhealthy == "" {
			healthy++
		}
	}
	e.members, e.known = members, true
	p.metrics.Devices.WithLabelValues(c.Pool.Resource.String(), "healthy").Set(float64(healthy))
	p.metrics.Devices.WithLabelValues(c.Pool.Resource.String(), "unhealthy").Set(float64(len(members) - healthy))
	alloc, how := c.Allocator, c.Pool.Preference // not c, which is larger
	e.Publish(kubelet.Pool{
		Devices:  devices,
		Again:    again,
		Allocate: func(ids []string) (allocation.Answer, error) { return p.allocate(alloc, members, ids) },
		Prefer: func(available, must []string, size int) []string {
			return pool.Prefer(how, members, available, must, size)
		},
	})
}

// allocate gives devices to a container: it notes them in the inventory first, and then writes
// their files. Only members that are asked for are indexed: an index of every pool, made at
// every look, costs more memory than the search.
func (p *Plugin) allocate(alloc allocation.Allocator, members []pool.Member, ids []string) (allocation.Answer, error) {
	alloc.Members = make(map[string]pool.Member, len(ids))
	for i := range members {
		if slices.Contains(ids, members[i].ID) {
			alloc.Members[members[i].ID] = members[i]
		}
	}
	undo, err := p.inventory.Give(alloc.Pool.Resource, ids)
	if err != nil {
		return allocation.Answer{}, fmt.Errorf("%w: %w", allocation.ErrUnknownDevice, err)
	}
	p.files.RLock()
	defer p.files.RUnlock()
	answer, err := alloc.Allocate(ids)
	if err != nil {
		undo()
	}
	return answer, err
}

// report logs what changed, and why a pool is empty.
func (p *Plugin) report(c config.Pool, e *endpoint, now []pool.Member) {
	healthOf := func(m []pool.Member) map[string]string {
		out := make(map[string]string, len(m))
		for i := range m {
			out[m[i].ID] = m[i].Unhealthy
		}
		return out
	}
	if e.known && slices.EqualFunc(e.members, now, sameHealth) {
		return
	}
	log := p.log.With("resource", c.Resource.String())
	was, is := healthOf(e.members), healthOf(now)
	added, removed := 0, 0
	for id, why := range is {
		old, known := was[id]
		if !known {
			added++
		}
		if why != old {
			log.Info("device health", "pci", id, "unhealthy", why)
		}
	}
	for id := range was {
		if _, known := is[id]; !known {
			removed++
		}
	}
	if !e.known || added > 0 || removed > 0 {
		log.Info("pool", "devices", len(now), "added", added, "removed", removed)
	}
	if len(now) == 0 && (!e.known || removed > 0) {
		log.Warn("pool has no devices; sriovdp -explain tells why")
	}
}

// removeOthers withdraws pools that the configuration no longer has, all at
// once.
func (p *Plugin) removeOthers(keep []inventory.Pool) {
	var gone sync.WaitGroup
	for r, e := range p.endpoints {
		if slices.ContainsFunc(keep, func(k inventory.Pool) bool { return k.Resource == r }) {
			continue
		}
		delete(p.endpoints, r)
		p.retired[r] = true
		p.log.Info("pool removed", "resource", r.String())
		gone.Go(func() {
			e.stop()
			<-e.stopped
			p.metrics.Forget(r.String())
		})
	}
	gone.Wait()
}

// stop withdraws every pool. Files stay: pods may need them, and whoever starts next removes
// what they do not.
func (p *Plugin) stop() {
	var gone sync.WaitGroup
	for _, e := range p.endpoints {
		gone.Go(func() {
			e.stop()
			<-e.stopped
		})
	}
	gone.Wait()
	p.log.Info("stopped")
}

func sameHealth(a, b pool.Member) bool { return a.ID == b.ID && a.Unhealthy == b.Unhealthy }
