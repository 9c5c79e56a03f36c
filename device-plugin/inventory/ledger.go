// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
)

// ErrNotOffered: a device is not, or no longer, offered as the resource that was asked for.
var ErrNotOffered = errors.New("not offered as this resource")

// ledger has, for each device, the pool that may give it out and the pod that has it. A device
// is given out and changes its pool under one lock, so only one of the two can happen.
type ledger struct {
	mu      sync.Mutex
	offers  map[string]pool.Offer  // of the assignment in force
	known   map[string]pool.Holder // of kubelet's last answer
	given   map[string]given       // by this process
	version int                    // grows with every change of known and given
}

type given struct {
	pool.Offer
	at time.Time
}

func (l *ledger) give(r config.Resource, ids []string) (undo func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		if l.offers[id].Resource != r {
			return nil, fmt.Errorf("%.80q: %w: %s", id, ErrNotOffered, r)
		}
	}
	before := map[string]given{}
	now := time.Now()
	for _, id := range ids {
		before[id] = l.given[id]
		l.put(id, given{l.offers[id], now})
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, id := range ids {
			if l.given[id].at.Equal(now) { // and has not been given since
				l.put(id, before[id])
			}
		}
	}, nil
}

// put is called with the lock held.
func (l *ledger) put(id string, g given) {
	if l.given == nil {
		l.given = map[string]given{}
	}
	l.given[id] = g
	if g.at.IsZero() {
		delete(l.given, id)
	}
	l.version++
}

func (l *ledger) giveBack(ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		l.put(id, given{})
	}
}

// held is who has what, and the version that commit wants to see.
func (l *ledger) held() (map[string]pool.Holder, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := make(map[string]pool.Holder, len(l.known)+len(l.given))
	maps.Copy(held, l.known)
	for id, g := range l.given {
		h := held[id]
		h.Resource = g.Resource
		held[id] = h
	}
	return held, l.version
}

func (l *ledger) holder(id string) (pool.Holder, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, ok := l.known[id]
	if g, isGiven := l.given[id]; isGiven {
		h.Resource, ok = g.Resource, true
	}
	return h, ok
}

// commit puts an assignment into force unless devices were given out since the version that
// it was made for: it then has to be made again.
func (l *ledger) commit(offers map[string]pool.Offer, version int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.version != version {
		return false
	}
	l.offers = offers
	return true
}

// heard takes kubelet's list of what pods have, which was requested at the time asked. A device
// that was given out before and is listed is from now on in use until a list lacks it. One that
// was given out well before and is not listed is free.
func (l *ledger) heard(list map[string]pool.Holder, asked time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.learn(list)
	l.expire(func(id string, g given) bool {
		h, listed := list[id]
		switch {
		case !listed || h.Resource != g.Resource && h.Claim == "":
			return asked.Sub(g.at) > listedTime
		case h.Resource == g.Resource:
			return asked.After(g.at)
		}
		return false // through a claim, of which only whoever gave it knows the resource
	})
}

// know takes an answer that says nothing of what was given.
func (l *ledger) know(list map[string]pool.Holder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.learn(list)
}

// learn is called with the lock held.
func (l *ledger) learn(list map[string]pool.Holder) {
	if !maps.Equal(l.known, list) {
		l.known = list
		l.version++
	}
}

// free drops what was given out and is not in use as far as the host shows.
func (l *ledger) free(isFree func(id, driver string, since time.Duration) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire(func(id string, g given) bool { return isFree(id, g.Driver, time.Since(g.at)) })
}

func (l *ledger) expire(over func(id string, g given) bool) {
	for id, g := range l.given {
		if over(id, g) {
			delete(l.given, id)
			l.version++
		}
	}
}
