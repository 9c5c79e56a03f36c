// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
)

// How often to look for changes of which there is no event.
const (
	// unknownTime: kubelet did not answer, or the devices could not be listed.
	unknownTime = time.Second
	// releaseTime: something was left to do.
	releaseTime = 10 * time.Second
	// askTime is how often kubelet is asked what pods have while a pool waits for a device that
	// a pod has. Nothing announces that a pod has ended.
	askTime = time.Second
	// hurryTime is that for hurryFor after a sign that a pod goes: its network is gone before
	// kubelet counts it out.
	hurryTime = 100 * time.Millisecond
	hurryFor  = 3 * time.Second
)

// LettingGo is to be called when a pod may have released a device. If a pool waits for one,
// kubelet is asked at once.
func (inv *Inventory) LettingGo() {
	select {
	case inv.signs <- struct{}{}:
	default: // one is enough
	}
}

// loop does all the work, one thing at a time, until ctx ends.
func (inv *Inventory) loop(ctx context.Context, causes <-chan string, changed <-chan struct{}) {
	inv.look(ctx, causeStart)
	inv.inForce.set(inv.begun)
	debug.FreeOSMemory()
	ticker := time.NewTicker(inv.opts.Rescan)
	defer ticker.Stop()
	for {
		timer := inv.soon()
		select {
		case <-ctx.Done():
			return
		case cause := <-causes:
			if gather(ctx, causes, changed) && inv.reload(ctx) {
				break // and has looked
			}
			inv.look(ctx, cause)
		case <-changed:
			inv.reload(ctx)
		case <-ticker.C:
			inv.look(ctx, causePeriodic)
			// What a look needs is mostly garbage afterwards, and the next one is far away.
			// Amid events it is not.
			debug.FreeOSMemory()
		case <-inv.signs:
			if inv.lost || inv.others {
				inv.hurried = time.Now()
				inv.doubts = min(1, inv.doubts) // it may be whoever is in doubt
				inv.released(ctx)
			}
		case <-timer:
			if inv.waits() && (inv.doubts == 0 || time.Since(inv.looked) < inv.doubtTime()) {
				inv.released(ctx)
				break
			}
			inv.look(ctx, causePeriodic)
		}
	}
}

// waits reports whether all that is to be found out is what pods hold.
func (inv *Inventory) waits() bool {
	known := inv.holders.known != never && inv.holders.known != stale
	return inv.sighted && known && (inv.lost || inv.others)
}

// released asks what pods hold, and looks at the host if that is not what it was.
func (inv *Inventory) released(ctx context.Context) {
	_, before := inv.ledger.held()
	inv.ask(ctx)
	doubted := inv.holders.doubtful && inv.lost && (inv.doubts == 0 || inv.holders.only > inv.only)
	if _, now := inv.ledger.held(); now != before || doubted || !inv.waits() || inv.again && time.Since(inv.looked) > releaseTime {
		inv.look(ctx, causePeriodic)
	}
}

// soon fires when a look is due that nothing else causes; never if none is.
func (inv *Inventory) soon() <-chan time.Time {
	askTime := askTime
	if inv.doubts > 0 {
		left := max(0, inv.doubtTime()-time.Since(inv.looked))
		if !inv.waits() {
			return time.After(left)
		}
		askTime = min(askTime, left)
	}
	switch {
	case !inv.sighted, inv.holders.known == never, inv.holders.known == stale:
		return time.After(unknownTime)
	case inv.waits() && time.Since(inv.hurried) < hurryFor:
		return time.After(hurryTime)
	case inv.waits():
		return time.After(askTime)
	case inv.again:
		return time.After(releaseTime)
	}
	return nil
}

// doubtTime is the time from one look to the next that has kubelet write its checkpoint anew.
// It grows, because a pod of which only the checkpoint tells may also be there to stay.
func (inv *Inventory) doubtTime() time.Duration {
	return min(max(hurryTime, time.Duration(inv.doubts-1)*unknownTime), releaseTime)
}

// reload takes a new configuration and looks at the host for it, or keeps the one in
// force if it is bad.
func (inv *Inventory) reload(ctx context.Context) (looked bool) {
	now := inv.file.last.Load() // what comes later is another change
	defer func() { inv.inForce.set(now) }()
	cfg, err := now.parse(inv.opts.ConfigFile, inv.opts.ResourcePrefix)
	defer inv.status.configured(err) // last: who hears of it finds the metrics as they should be
	if err != nil {
		inv.metrics.Reloads.WithLabelValues("error").Inc()
		inv.metrics.ConfigGood.Set(0)
		inv.log.Error("new configuration is refused, the old one stays in force", "err", err)
		return false
	}
	inv.metrics.Reloads.WithLabelValues("ok").Inc()
	inv.metrics.ConfigGood.Set(1)
	inv.log.Info("configuration changed", "pools", len(cfg.Pools))
	inv.cfg, inv.configured = cfg, true
	inv.announce(ctx)
	inv.look(ctx, causeConfig)
	return true
}

// announce serves the pools of a new configuration before their devices are known. Kubelet may
// take a second to find a pool, and the look at the host takes as long as the kernel makes VFs
// on a PF, which it locks meanwhile: neither waits for the other.
func (inv *Inventory) announce(ctx context.Context) {
	s := State{}
	for _, c := range inv.cfg.Pools {
		s.Pools = append(s.Pools, Pool{Pool: c})
	}
	inv.serve(ctx, s)
}

// look reads the host's devices, assigns them to pools, and serves the result.
func (inv *Inventory) look(ctx context.Context, cause string) {
	defer inv.status.busy()()
	inv.metrics.Rescans.WithLabelValues(cause).Inc()
	begun := time.Now()
	inv.looked = begun
	inv.read(ctx, cause)
	read := time.Since(begun)
	s := inv.assign(ctx, cause)
	inv.settled.settle(inv.devices, config.NeedsOf(inv.cfg.Pools))
	inv.again = inv.serve(ctx, s)
	inv.log.Debug("looked at the host", "cause", cause, "read", read.String(), "all", time.Since(begun).String())
}

// read lists the devices. Those of which nothing can be said stay as they were.
func (inv *Inventory) read(ctx context.Context, cause string) {
	devices, err := inv.facts.read(ctx, config.NeedsOf(inv.cfg.Pools), cause)
	inv.reportBroken(err)
	if errors.Is(err, errBlind) {
		return
	}
	inv.devices = pool.Recall(devices, inv.devices, err)
	inv.sighted = true
	inv.seen.Store(&inv.devices)
}

// reportBroken logs what cannot be read when that changes, not at every look.
func (inv *Inventory) reportBroken(err error) {
	now := map[string]bool{}
	if errors.Is(err, errBlind) {
		now[err.Error()] = true
	} else {
		pool.EachError(err, func(e error) { now[e.Error()] = true })
	}
	inv.metrics.ReadErrors.Set(float64(len(now)))
	for text := range now {
		if !inv.broken[text] {
			inv.log.Warn("cannot be read; stays as it was known", "err", text)
		}
	}
	for text := range inv.broken {
		if !now[text] {
			inv.log.Info("can be read again, or is gone", "was", text)
		}
	}
	inv.broken = now
}

// assign works out who gets what, and puts it into force. Devices may be given out
// meanwhile; the assignment is then made again.
func (inv *Inventory) assign(ctx context.Context, cause string) State {
	asked := false
	for {
		held, version := inv.ledger.held()
		if inv.holders.known == stale {
			inv.freeze(held)
		}
		a := pool.Assign(inv.devices, inv.cfg.Pools, held)
		// To ask kubelet costs as much as to look at the host. Amid events, such as those of
		// VFs in the making, it matters only if a device would come or go.
		if !asked && (!isEvent(cause) || inv.lost || inv.others || inv.again || inv.moves(a)) {
			inv.ask(ctx)
			asked = true
			continue
		}
		s := State{Held: held, Devices: inv.devices, Known: inv.configured && inv.sighted && inv.holders.known != never}
		s.Asked = asked && inv.holders.known == current
		if !s.Known {
			for _, c := range inv.cfg.Pools {
				s.Pools = append(s.Pools, Pool{Pool: c})
			}
			s.Doubtful = inv.doubt(cause)
			return s // nothing is in force that was not before
		}
		offers := a.Offers(inv.cfg.Pools)
		kept := a.Keep(inv.devices, inv.cfg.Pools, inv.members, held)
		if !inv.ledger.commit(offers, version) {
			continue
		}
		inv.lost = kept > 0 || a.Awaited(held)
		s.Doubtful = inv.doubt(cause)
		inv.others = a.Waits()
		inv.force(a, cause)
		for j, c := range inv.cfg.Pools {
			s.Pools = append(s.Pools, Pool{c, a.Members[j]})
		}
		return s
	}
}

// doubt reports whether something waits for the next version of the device manager's
// checkpoint, and counts how often it reported so. While other events come it waits longer,
// because kubelet writes a file each time.
func (inv *Inventory) doubt(cause string) bool {
	h := inv.holders
	if h.only > inv.only {
		inv.doubts = 0
	}
	inv.only = h.only
	if !h.doubtful || !inv.lost && h.known != never && h.known != stale {
		inv.doubts = 0
		return false
	}
	if isEvent(cause) {
		inv.doubts = max(1, inv.doubts)
		return false
	}
	inv.doubts++
	return true
}

// force remembers an assignment, and says where it may not be what was meant.
func (inv *Inventory) force(a pool.Assignment, cause string) {
	inv.members = make(map[config.Resource][]pool.Member, len(inv.cfg.Pools))
	for j, c := range inv.cfg.Pools {
		inv.members[c.Resource] = a.Members[j]
	}
	if cause == causeStart || cause == causeConfig {
		idle := a.IdlePFs(inv.cfg.Pools)
		for j, c := range inv.cfg.Pools {
			if n := idle[c.Resource]; n > 0 && len(a.Members[j]) == 0 {
				inv.log.Warn("pool is empty, but would have SR-IOV PFs without VFs; includePFs: true asks for them",
					"resource", c.Resource.String(), "pfs", n)
			}
		}
		for r, n := range a.Overlaps(inv.cfg.Pools) {
			inv.log.Warn("pools overlap, the one further up in the file has the devices", "resource", r.String(), "devices", n)
		}
	}
}

func (inv *Inventory) ask(ctx context.Context) {
	inv.holders.ask(ctx, &inv.ledger)
	inv.status.holding(inv.holders.known, inv.holders.why)
	if inv.holders.known == blind {
		inv.ledger.free(inv.looksFree)
	}
}

// freeze counts every device that is offered as in use by a pod of its resource: nobody has
// said that it is free.
func (inv *Inventory) freeze(held map[string]pool.Holder) {
	for r, members := range inv.members {
		for i := range members {
			if _, known := held[members[i].ID]; !known {
				held[members[i].ID] = pool.Holder{Resource: r}
			}
		}
	}
}

// idleTime is how long a device may take, after it was given out, to leave the host's
// namespace: a pod may wait for its volumes before it has a sandbox.
const idleTime = 10 * time.Minute

// looksFree reports whether a device that was given out is free again, judged by the host alone,
// where neither the pod-resources API nor the checkpoint can be read: another driver is bound
// since, or its interface is in the host's namespace.
func (inv *Inventory) looksFree(id, driver string, since time.Duration) bool {
	if since < listedTime {
		return false
	}
	i := slices.IndexFunc(inv.devices, func(d pool.Device) bool { return d.ID == id })
	if i < 0 {
		return true // gone from the host
	}
	d := &inv.devices[i]
	return d.Driver != driver || len(d.Netdevs) > 0 && since > idleTime
}

// moves reports whether an assignment gives a pool other devices than it has.
func (inv *Inventory) moves(a pool.Assignment) bool {
	for j, c := range inv.cfg.Pools {
		now, known := inv.members[c.Resource]
		if !known || !slices.EqualFunc(a.Members[j], now, func(x, y pool.Member) bool { return x.ID == y.ID }) {
			return true
		}
	}
	return false
}
