package plugin

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
)

// stuckTime is how long a look at the host may take before the process counts
// as sick.
const stuckTime = 30 * time.Second

// status is what the health endpoints tell.
type status struct {
	mu        sync.Mutex
	configErr error
	scanned   bool      // the first look at the host is done
	since     time.Time // start of the look that is under way; zero if none is
	endpoints []*kubelet.Endpoint
}

// configured records whether the configuration on disk is the one in force.
func (s *status) configured(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.configErr = err
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

func (s *status) serving(endpoints []*kubelet.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints = slices.Clone(endpoints)
}

// Healthy is nil unless the plugin hangs, which only a restart can mend.
func (p *Plugin) Healthy() error {
	s := &p.status
	s.mu.Lock()
	defer s.mu.Unlock()
	if since := s.since; !since.IsZero() && time.Since(since) > stuckTime {
		return fmt.Errorf("the look at the host that began %s ago has not ended", time.Since(since).Round(time.Second))
	}
	return nil
}

// Ready is nil if the configuration on disk is in force and kubelet watches
// every pool.
func (p *Plugin) Ready() error {
	s := &p.status
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.scanned {
		return errors.New("still looking at the host for the first time")
	}
	errs := []error{s.configErr}
	for _, e := range s.endpoints {
		if !e.Watched() {
			errs = append(errs, fmt.Errorf("kubelet does not watch %s yet", e.Resource()))
		}
	}
	return errors.Join(errs...)
}
