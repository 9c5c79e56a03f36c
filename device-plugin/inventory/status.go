// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"time"
)

// stuckTime is how long a look at the host may take before Healthy fails.
const stuckTime = 30 * time.Second

// status is what the health endpoints tell.
type status struct {
	mu        sync.Mutex
	configErr error
	scanned   bool      // the first look at the host is done
	since     time.Time // start of the look that is under way; zero if none is
	holders   knowledge
	why       string // holders are not known
}

// configured records whether the configuration on disk is the one in force.
func (s *status) configured(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.configErr = err
}

func (s *status) holding(k knowledge, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holders, s.why = k, why
}

// busy marks the start of a look at the host, and the function it returns its
// end.
func (s *status) busy() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = time.Now()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.since, s.scanned = time.Time{}, true
	}
}

// Healthy is nil unless the inventory hangs, which only a restart can mend.
func (inv *Inventory) Healthy() error {
	s := &inv.status
	s.mu.Lock()
	defer s.mu.Unlock()
	if since := s.since; !since.IsZero() && time.Since(since) > stuckTime {
		return fmt.Errorf("the look at the host that began %s ago has not ended", time.Since(since).Round(time.Second))
	}
	return nil
}

// Ready is nil if the configuration on disk is in force and it is known who holds what.
func (inv *Inventory) Ready() error {
	s := &inv.status
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.scanned {
		return errors.New("still looking at the host for the first time")
	}
	errs := []error{s.configErr}
	switch s.holders {
	case never, stale:
		errs = append(errs, errors.New(cmp.Or(s.why, "it is not known yet which devices pods hold")))
	case blind, current:
	}
	return errors.Join(errs...)
}
