// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/event"

	hw "github.com/sriovkit/sriovkit/libsriov/event"
	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

const (
	// settle is how long no event may have come before the host is observed. Creating VFs
	// causes hundreds of events within a second; observing the host between them is of no
	// use and slows down the kernel.
	settle = 200 * time.Millisecond
	// settleLimit bounds the wait for that, for pods cause events all the time.
	settleLimit = 2 * time.Second
)

// hardware reports on its channel that PCI functions, netdevs or vDPA devices have changed.
type hardware struct {
	changed chan event.GenericEvent
	// Numbers of events, see libsriov.Host.Events: of the last one received, and of the last
	// one that an observation of the host covers.
	received, observed atomic.Uint64
	// looking is held from an observation of the host to the end of the pass.
	looking sync.Mutex

	mu sync.Mutex
	// By PCI address: links that differ from the last observation, according to link events
	// since, and links as observed.
	changedLinks, knownLinks map[string]linkFacts
	vfs                      map[string]bool
	missed                   bool // link events were lost since
}

// linkFacts are the attributes of a netdev that the spec sets and of whose change only link
// events tell: there is no device event for them.
type linkFacts struct {
	mtu int
	up  bool // of PFs only; VFs are set up and down by their users
}

// noteLinks takes the links as observed; later events that say the same are ignored.
func (h *hardware) noteLinks(found []v1.InterfaceExt) {
	known, vfs := map[string]linkFacts{}, map[string]bool{}
	for _, pf := range found {
		if pf.Name != "" {
			known[pf.PciAddress] = linkFacts{pf.Mtu, pf.LinkAdminState == "up"}
		}
		for _, vf := range pf.VFs {
			if vf.Name != "" && vf.PciAddress != pf.PciAddress {
				known[vf.PciAddress], vfs[vf.PciAddress] = linkFacts{mtu: vf.Mtu}, true
			}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.knownLinks, h.vfs, h.missed = known, vfs, false
	maps.DeleteFunc(h.changedLinks, func(device string, said linkFacts) bool { return !h.differs(device, said) })
}

// differs reports whether a link differs from how it was observed. A link that was not
// observed is not news here: there is a device event for links that come or go.
func (h *hardware) differs(device string, said linkFacts) bool {
	known, ok := h.knownLinks[device]
	return ok && known != said
}

// noteEvent takes a link event; news is false if nothing has changed by it.
func (h *hardware) noteEvent(e hw.Link) (news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.Action == hw.Missed {
		h.missed = true
		return true
	}
	if e.Action != hw.Change || e.Link.Parent == "" || h.knownLinks == nil {
		return false
	}
	said := linkFacts{e.Link.MTU, e.Link.Up() && !h.vfs[e.Link.Parent]}
	if !h.differs(e.Link.Parent, said) {
		delete(h.changedLinks, e.Link.Parent)
		return false
	}
	if h.changedLinks == nil {
		h.changedLinks = map[string]linkFacts{}
	}
	h.changedLinks[e.Link.Parent] = said
	return true
}

// watch sends on changed once events have settled, unless the host was observed since the
// last of them, as it is after the daemon's own changes.
func (h *hardware) watch(ctx context.Context) error {
	devices, err := hw.OpenDevices()
	if err != nil {
		return fmt.Errorf("subscribe to device events: %w", err)
	}
	defer devices.Close()
	links, err := hw.OpenLinks(nil)
	if err != nil {
		return fmt.Errorf("subscribe to link events: %w", err)
	}
	defer links.Close()
	news := make(chan struct{}, 1)
	g, watching := errgroup.WithContext(ctx)
	g.Go(func() error { return h.readDevices(watching, devices, news) })
	g.Go(func() error { return h.readLinks(watching, links, news) })
	g.Go(func() error { return h.debounce(watching, news) })
	if err := g.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}

// debounce waits for news, then until events have settled, and sends on changed.
func (h *hardware) debounce(ctx context.Context, news <-chan struct{}) error {
	for {
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
		limit := time.After(settleLimit)
		for quiet := false; !quiet; {
			select {
			case <-news:
			case <-time.After(settle):
				quiet = true
			case <-limit:
				quiet = true
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if h.upToDate() {
			continue
		}
		select {
		case h.changed <- event.GenericEvent{Object: &v1.SriovNetworkNodeState{}}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// upToDate reports whether the last observation covers all events received. It waits for a
// pass that is under way, for most events are of the changes that such a pass makes.
func (h *hardware) upToDate() bool {
	h.looking.Lock()
	defer h.looking.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.received.Load() <= h.observed.Load() && len(h.changedLinks) == 0 && !h.missed
}

func (h *hardware) readDevices(ctx context.Context, devices *hw.Devices, news chan<- struct{}) error {
	for {
		e, err := devices.Next(ctx)
		if err != nil {
			return fmt.Errorf("read device events: %w", err)
		}
		switch {
		case e.Action == hw.Missed: // events were lost, of which no number is known
			h.received.Store(math.MaxUint64)
		case e.Subsystem == "pci" || e.Subsystem == "net" || e.Subsystem == "vdpa":
			h.received.Store(e.Number)
		default:
			continue
		}
		wake(news)
	}
}

func (h *hardware) readLinks(ctx context.Context, links *hw.Links, news chan<- struct{}) error {
	for {
		e, err := links.Next(ctx)
		if err != nil {
			return fmt.Errorf("read link events: %w", err)
		}
		if h.noteEvent(e) {
			wake(news)
		}
	}
}

func wake(news chan<- struct{}) {
	select {
	case news <- struct{}{}:
	default: // a wake-up is pending already
	}
}
