package node

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

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
}

// watch sends on changed once events have settled, unless somebody has looked since
// the last of them. That is so after the daemon's own changes.
func (h *hardware) watch(ctx context.Context) error {
	devices, err := hw.OpenDevices()
	if err != nil {
		return fmt.Errorf("subscribe to device events: %w", err)
	}
	defer devices.Close()
	for {
		err := h.next(ctx, devices)
		for limit := time.Now().Add(settleLimit); err == nil && time.Now().Before(limit); {
			quiet, cancel := context.WithTimeout(ctx, min(settle, time.Until(limit)))
			err = h.next(quiet, devices)
			cancel()
			if quiet.Err() != nil && ctx.Err() == nil {
				err = nil
				break
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("read device events: %w", err)
		case h.covered():
			continue
		}
		select {
		case h.changed <- event.GenericEvent{Object: &v1.SriovNetworkNodeState{}}:
		case <-ctx.Done():
			return nil
		}
	}
}

// covered tells whether a look has seen all that was heard of. One that goes on is
// waited for: what the daemon does then is most of what there is to hear.
func (h *hardware) covered() bool {
	h.looking.Lock()
	defer h.looking.Unlock()
	return h.heard.Load() <= h.seen.Load()
}

// next waits for an event that matters.
func (h *hardware) next(ctx context.Context, devices *hw.Devices) error {
	for {
		e, err := devices.Next(ctx)
		if err != nil {
			return err
		}
		switch {
		case e.Action == hw.Missed: // some that may be later than any look
			h.heard.Store(math.MaxUint64)
		case e.Subsystem == "pci" || e.Subsystem == "net":
			h.heard.Store(e.Number)
		default:
			continue
		}
		return nil
	}
}
