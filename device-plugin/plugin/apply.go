package plugin

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/sriovkit/sriovkit/device-plugin/allocation"
	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
)

// endpoint is a pool that is being served.
type endpoint struct {
	*kubelet.Endpoint
	announced bool // served, and nobody has looked for its devices yet
	members   []pool.Member
	spec      *allocation.Spec // nil without CDI
	stop      context.CancelFunc
	stopped   chan struct{}
}

// apply makes the served pools those of an assignment. Pools that are as before
// notice nothing.
func (p *Plugin) apply(ctx context.Context, a pool.Assignment, held map[string]config.Resource) {
	p.removeOthers()
	lost := false
	type change struct {
		pool    config.Pool
		members []pool.Member
		grows   bool
	}
	changes := make([]change, len(p.cfg.Pools))
	for i, c := range p.cfg.Pools {
		before := p.endpoints[c.Resource]
		members := a.Members[i]
		if before != nil {
			members = pool.Keep(members, before.members, func(id string) bool { return held[id] == c.Resource })
		}
		lost = lost || len(members) > len(a.Members[i])
		changes[i] = change{c, members, before == nil || len(members) > len(before.members)}
	}
	p.holders.lost(lost)
	// A device that moves from one pool to another must not be in both.
	slices.SortStableFunc(changes, func(a, b change) int {
		switch {
		case a.grows == b.grows:
			return 0
		case b.grows:
			return -1
		}
		return 1
	})
	for _, c := range changes {
		p.publish(ctx, c.pool, c.members)
	}
	var serving []*kubelet.Endpoint
	for _, c := range p.cfg.Pools {
		serving = append(serving, p.endpoints[c.Resource].Endpoint)
	}
	p.status.serving(serving)
}

// announce starts to serve pools that the configuration has just got, before their
// devices are known. Kubelet may take a second to find a pool, and the look at the host
// takes as long as the kernel makes VFs on a PF, which it locks meanwhile: neither
// waits for the other.
func (p *Plugin) announce(ctx context.Context) {
	for _, c := range p.cfg.Pools {
		if p.endpoints[c.Resource] == nil {
			e := p.newEndpoint(c)
			e.announced = true
			p.serve(ctx, e)
		}
	}
}

func (p *Plugin) newEndpoint(c config.Pool) *endpoint {
	e := &endpoint{Endpoint: kubelet.NewEndpoint(c.Resource, kubelet.Dirs(p.opts.KubeletDir), p.watcher, p.metrics, p.log)}
	p.endpoints[c.Resource] = e
	return e
}

// publish brings one pool up to date and starts to serve it if it is new.
func (p *Plugin) publish(ctx context.Context, c config.Pool, members []pool.Member) {
	e := p.endpoints[c.Resource]
	serve := e == nil
	if serve {
		e = p.newEndpoint(c)
	}
	isNew := serve || e.announced
	e.announced = false
	if p.opts.UseCDI {
		if spec := allocation.NewSpec(p.opts.CDIDir, c); e.spec == nil || e.spec.Path() != spec.Path() {
			e.spec = spec // of another device type it is another file
		}
	}
	p.report(c, e.members, members, isNew)
	e.members = members
	alloc := allocation.Allocator{
		Host: p.host, Pool: c, Members: make(map[string]pool.Member, len(members)),
		DeviceInfo: p.opts.DeviceInfoDir, CDI: e.spec,
	}
	devices := make([]kubelet.Device, len(members))
	healthy := 0
	for i, m := range members {
		alloc.Members[m.ID] = m
		devices[i] = kubelet.Device{ID: m.ID, Healthy: m.Unhealthy == "", NUMA: m.NUMANode}
		if c.ExcludeTopology {
			devices[i].NUMA = -1
		}
		if m.Unhealthy == "" {
			healthy++
		}
	}
	if e.spec != nil {
		if err := e.spec.Write(alloc); err != nil {
			p.log.Error("CDI specification", "resource", c.Resource.String(), "err", err)
		}
	}
	p.metrics.Devices.WithLabelValues(c.Resource.String(), "healthy").Set(float64(healthy))
	p.metrics.Devices.WithLabelValues(c.Resource.String(), "unhealthy").Set(float64(len(members) - healthy))
	e.Publish(kubelet.Pool{
		Devices: devices,
		Allocate: func(ids []string) (allocation.Answer, error) {
			answer, err := alloc.Allocate(ids)
			if err == nil {
				p.holders.allocated(c.Resource, ids)
			}
			return answer, err
		},
		Prefer: func(available, must []string, size int) []string {
			return pool.Prefer(c.Preference, members, available, must, size)
		},
	})
	if serve {
		p.serve(ctx, e)
	}
}

func (p *Plugin) serve(ctx context.Context, e *endpoint) {
	ctx, e.stop = context.WithCancel(ctx)
	e.stopped = make(chan struct{})
	go func() {
		defer close(e.stopped)
		e.Run(ctx)
	}()
}

// report logs what changed, and why a pool is empty.
func (p *Plugin) report(c config.Pool, before, now []pool.Member, isNew bool) {
	healthOf := func(m []pool.Member) map[string]string {
		out := make(map[string]string, len(m))
		for _, x := range m {
			out[x.ID] = x.Unhealthy
		}
		return out
	}
	log := p.log.With("resource", c.Resource.String())
	was, is := healthOf(before), healthOf(now)
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
	if isNew || added > 0 || removed > 0 {
		log.Info("pool", "devices", len(now), "added", added, "removed", removed)
	}
	if len(now) == 0 && (isNew || removed > 0) {
		log.Warn("pool has no devices; sriovdp -explain tells why")
	}
}

// removeOthers withdraws pools that the configuration no longer has, all at
// once.
func (p *Plugin) removeOthers() {
	keep := map[config.Resource]bool{}
	for _, c := range p.cfg.Pools {
		keep[c.Resource] = true
	}
	var gone sync.WaitGroup
	for r, e := range p.endpoints {
		if keep[r] {
			continue
		}
		delete(p.endpoints, r)
		p.log.Info("pool removed", "resource", r.String())
		gone.Go(func() {
			e.stop()
			<-e.stopped
			p.metrics.Forget(r.String())
		})
	}
	gone.Wait()
}

// stop withdraws every pool and cleans up after it.
func (p *Plugin) stop() {
	var gone sync.WaitGroup
	for _, e := range p.endpoints {
		gone.Go(func() {
			e.stop()
			<-e.stopped
		})
	}
	gone.Wait()
	p.prune()
	p.log.Info("stopped")
}

// prune removes files that no pod needs: device information of free devices,
// and CDI specifications of pools that are gone.
func (p *Plugin) prune() {
	held := p.holders.refresh(context.Background())
	isHeld := func(id string) bool {
		_, ok := held[id]
		return ok
	}
	var keep []string
	var errs []error
	for r, e := range p.endpoints {
		errs = append(errs, allocation.PruneDeviceInfo(p.opts.DeviceInfoDir, r, isHeld))
		if e.spec != nil {
			keep = append(keep, e.spec.Path())
		}
	}
	errs = append(errs, allocation.PruneCDI(p.opts.CDIDir, keep, isHeld))
	if err := errors.Join(errs...); err != nil {
		p.log.Warn("clean up files", "err", err)
	}
}
