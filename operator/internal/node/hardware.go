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
	// settle is how long it has to be quiet after hardware events before the host is
	// read again. Creating VFs makes hundreds of them within a second; a look amid
	// them is in vain, and slows down the kernel, which makes the next VF meanwhile.
	settle = 200 * time.Millisecond
	// settleLimit is how long it may be unquiet: pods come and go all the time.
	settleLimit = 2 * time.Second
)

// hardware tells when PCI functions or their netdevs have changed.
type hardware struct {
	changed chan event.GenericEvent
	// Numbers of events, see libsriov.Host.Events: of the last one that was heard, and
	// of the last before the look at the host that decided what to do.
	heard, seen atomic.Uint64
	// looking is held from a look at the host to the end of what follows from it.
	looking sync.Mutex

	mu sync.Mutex
	// said and known are, by PCI address, what link events said since the last look, and
	// what that look saw.
	said, known map[string]linkFacts
	vfs         map[string]bool
	missed      bool // some link events
}

// linkFacts are what is wanted of a netdev and announced by link events alone.
type linkFacts struct {
	mtu int
	up  bool // of PFs; VFs are set up and down by their users
}

// saw notes what a look at the links showed: events that say the same are no news.
func (h *hardware) saw(found []v1.InterfaceExt) {
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
	h.known, h.vfs, h.missed = known, vfs, false
	maps.DeleteFunc(h.said, func(device string, said linkFacts) bool { return !h.differs(device, said) })
}

// differs reports whether a link is not as the last look saw it. One that comes or goes
// is announced by device events.
func (h *hardware) differs(device string, said linkFacts) bool {
	known, ok := h.known[device]
	return ok && known != said
}

// linkSays takes a link event; news is false if it says what is known.
func (h *hardware) linkSays(e hw.Link) (news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.Action == hw.Missed {
		h.missed = true
		return true
	}
	if e.Action != hw.Change || e.Link.Parent == "" || h.known == nil {
		return false
	}
	said := linkFacts{e.Link.MTU, e.Link.Up() && !h.vfs[e.Link.Parent]}
	if !h.differs(e.Link.Parent, said) {
		delete(h.said, e.Link.Parent)
		return false
	}
	if h.said == nil {
		h.said = map[string]linkFacts{}
	}
	h.said[e.Link.Parent] = said
	return true
}

// watch sends on changed once events have settled, unless somebody has looked since
// the last of them. That is so after the daemon's own changes.
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
	g.Go(func() error { return h.hearDevices(watching, devices, news) })
	g.Go(func() error { return h.hearLinks(watching, links, news) })
	g.Go(func() error { return h.tell(watching, news) })
	if err := g.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}

// tell waits until events have settled, and passes on that there was one.
func (h *hardware) tell(ctx context.Context, news <-chan struct{}) error {
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
		if h.covered() {
			continue
		}
		select {
		case h.changed <- event.GenericEvent{Object: &v1.SriovNetworkNodeState{}}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// covered reports whether a look has seen all that was heard of. One that goes on is
// waited for: what the daemon does then is most of what there is to hear.
func (h *hardware) covered() bool {
	h.looking.Lock()
	defer h.looking.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heard.Load() <= h.seen.Load() && len(h.said) == 0 && !h.missed
}

func (h *hardware) hearDevices(ctx context.Context, devices *hw.Devices, news chan<- struct{}) error {
	for {
		e, err := devices.Next(ctx)
		if err != nil {
			return fmt.Errorf("read device events: %w", err)
		}
		switch {
		case e.Action == hw.Missed: // some that may be later than any look
			h.heard.Store(math.MaxUint64)
		case e.Subsystem == "pci" || e.Subsystem == "net" || e.Subsystem == "vdpa":
			h.heard.Store(e.Number)
		default:
			continue
		}
		wake(news)
	}
}

func (h *hardware) hearLinks(ctx context.Context, links *hw.Links, news chan<- struct{}) error {
	for {
		e, err := links.Next(ctx)
		if err != nil {
			return fmt.Errorf("read link events: %w", err)
		}
		if h.linkSays(e) {
			wake(news)
		}
	}
}

func wake(news chan<- struct{}) {
	select {
	case news <- struct{}{}:
	default: // it is known already that there is some
	}
}
