// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"slices"
	"sync"

	"github.com/sriovkit/sriovkit/device-plugin/allocation"
)

// Device is what kubelet is told of a device.
type Device struct {
	ID      string
	Healthy bool
	NUMA    int // node; below 0 if none is to be told
}

// Pool is a pool at one moment. It is not changed after it was published.
type Pool struct {
	Devices []Device
	// Again sends the devices though they are as before: kubelet then writes down anew what
	// pods hold.
	Again bool
	// Allocate answers for one container. Its error wraps allocation.ErrUnknownDevice for a
	// device that is not of the pool. With nil every device is unknown.
	Allocate func(ids []string) (allocation.Answer, error)
	// Prefer chooses size devices of available, among them those of must. Nil has no
	// preference.
	Prefer func(available, must []string, size int) []string
}

// list holds the pool that is in force, and lets streams wait for the next.
type list struct {
	mu      sync.Mutex
	pool    Pool
	known   bool // a pool was published, also if it is empty
	ended   bool
	changed chan struct{}  // closed when the device list changes
	streams sync.WaitGroup // that follow the list
}

// newList holds a pool that has no devices and knows none.
func newList() *list {
	l := &list{changed: make(chan struct{})}
	l.pool.complete()
	return l
}

// complete fills in what p does not say.
func (p *Pool) complete() {
	if p.Allocate == nil {
		p.Allocate = func([]string) (allocation.Answer, error) { return allocation.Answer{}, allocation.ErrUnknownDevice }
	}
	if p.Prefer == nil {
		p.Prefer = func([]string, []string, int) []string { return nil }
	}
}

func (l *list) publish(p Pool) {
	p.complete()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended { // a stream that has not sent its last list yet must not send this one
		p.Devices = nil
	}
	same := l.known && !p.Again && slices.Equal(l.pool.Devices, p.Devices)
	l.pool, l.known = p, true
	if !same && !l.ended {
		l.wake()
	}
}

// end makes every stream send an empty list and return.
func (l *list) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.ended = true, true
	l.pool.Devices = nil
	l.wake()
}

// follow registers a stream of kubelet's that will send every change of the list. It reports
// false once end was called: nothing is sent after the empty list.
func (l *list) follow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.streams.Add(1)
	return true
}

func (l *list) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// now returns the pool in force.
func (l *list) now() Pool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pool
}

// news returns the pool, whether it was published at all, whether end was called, and a
// channel that is closed when the devices change.
func (l *list) news() (p Pool, known, ended bool, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pool, l.known, l.ended, l.changed
}
