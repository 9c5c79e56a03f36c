package plugin

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
)

// holders knows which devices pods have, as what resource: from kubelet, and
// from what was just given out and kubelet may not list yet.
type holders struct {
	socket string
	log    *slog.Logger

	mu     sync.Mutex
	known  map[string]config.Resource // of kubelet's last answer
	recent map[string]recent          // by device
	left   bool                       // pods hold devices that their pool has lost
	silent bool                       // the absence of the API was logged
}

type recent struct {
	resource config.Resource
	at       time.Time
}

// listedTime is how long kubelet may take to list a pod whose device it has
// asked for; the pod's other devices and volumes come in between.
const listedTime = 30 * time.Second

func newHolders(socket string, log *slog.Logger) *holders {
	return &holders{socket: socket, log: log, recent: map[string]recent{}}
}

// allocated notes that a container was given devices.
func (h *holders) allocated(r config.Resource, ids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		h.recent[id] = recent{r, time.Now()}
	}
}

// refresh asks kubelet. If it does not answer, what is known so far stays: a
// device is rather kept too long than offered twice.
func (h *holders) refresh(ctx context.Context) map[string]config.Resource {
	list, err := kubelet.Holders(ctx, h.socket)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.known = map[string]config.Resource{}
		for _, l := range list {
			h.known[l.Device] = l.Resource
		}
		for id, r := range h.recent {
			if time.Since(r.at) > listedTime {
				delete(h.recent, id)
			}
		}
	case errors.Is(err, kubelet.ErrNoPodResources):
		if !h.silent {
			h.log.Info("devices that this process gives out count as in use until it ends", "err", err)
		}
		h.silent = true
	default:
		h.log.Warn("keeping what is known of devices in use", "err", err)
	}
	return h.all()
}

// last is what refresh knew, and what was given out since.
func (h *holders) last() map[string]config.Resource {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all()
}

func (h *holders) all() map[string]config.Resource {
	held := maps.Clone(h.known)
	if held == nil {
		held = map[string]config.Resource{}
	}
	for id, r := range h.recent {
		held[id] = r.resource
	}
	return held
}

// lost notes whether pods hold devices that their pool would not take now.
func (h *holders) lost(some bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left = some
}

func (h *holders) waiting() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.left
}

// moves tells whether an assignment gives a pool other devices than it has.
func (p *Plugin) moves(a pool.Assignment) bool {
	for i, c := range p.cfg.Pools {
		e := p.endpoints[c.Resource]
		if e == nil || !slices.EqualFunc(a.Members[i], e.members, func(x, y pool.Member) bool { return x.ID == y.ID }) {
			return true
		}
	}
	return false
}
