// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
	"github.com/sriovkit/sriovkit/multus-shim/delegate"
	"github.com/sriovkit/sriovkit/multus-shim/internal/brief"
	"github.com/sriovkit/sriovkit/multus-shim/record"
)

// gc detaches every container that the runtime does not list, and hands each
// network's plugins the attachments that are left of it. To a plugin GC means that
// whatever is not listed goes: the list holds the runtime's containers, recorded or
// not, and every record, whatever configuration wrote it; where that is not known
// to be all, no plugin is asked: a tenant's network may have the name of any other,
// also of the default one. Errors are collected.
func gc(ctx context.Context, c *call) error {
	if c.conf.ValidAttachments == nil {
		return coded(types.ErrInvalidNetworkConfig, errors.New("cni.dev/valid-attachments is missing: without it every attachment would be deleted"))
	}
	var err error
	if c.store, err = c.store.Index(); err != nil {
		return coded(types.ErrIOFailure, err)
	}
	s := &sweep{call: c, live: map[string]*liveNetwork{}}
	if err := s.survey(); err != nil {
		return coded(types.ErrIOFailure, err)
	}
	s.askRuntime()
	s.detachDead(ctx)
	s.addConfigured(ctx)
	s.collect(ctx)
	return brief.Join(s.errs...)
}

// sweep is one GC.
type sweep struct {
	*call
	live    map[string]*liveNetwork
	dead    []string // records of containers that no runtime can have
	unknown bool     // there may be attachments that no list has
	errs    []error

	unrecorded []conf.Attachment            // that the runtime lists
	direct     map[string][]conf.Attachment // of them, those that the runtime attached without a meta plugin, by network
}

// liveNetwork is a CNI network and its attachments that remain. Plugins keep their
// state by the network's name, so networks of one name share the list, whatever
// their configurations.
type liveNetwork struct {
	configurations map[string]delegate.Attachment // by content
	valid          map[conf.Attachment]bool
}

func (s *sweep) network(a delegate.Attachment) *liveNetwork {
	n := s.live[a.Name]
	if n == nil {
		n = &liveNetwork{configurations: map[string]delegate.Attachment{}, valid: map[conf.Attachment]bool{}}
		s.live[a.Name] = n
	}
	key := a.NetworkKey()
	if _, known := n.configurations[key]; !known {
		n.configurations[key] = a
	}
	return n
}

// survey reads what is known about all containers, and sorts them into those that the runtime
// lists and those that it does not. Records of another configuration count as listed: GC was
// called without its containers.
func (s *sweep) survey() error {
	keys, err := s.store.Keys()
	if err != nil {
		return err
	}
	listed := map[string]bool{} // containers
	for _, a := range s.conf.ValidAttachments {
		listed[a.ContainerID] = true
		keys = append(keys, record.Key(a.ContainerID, a.IfName))
	}
	nothing := map[string]bool{} // keys of which nothing is recorded
	slices.Sort(keys)
	found, shared := s.find(slices.Compact(keys))
	for _, f := range found {
		key, r, err := f.key, f.record, f.err
		id, _ := record.Split(key)
		isListed := listed[id]
		if err == nil && r != nil && !isListed {
			err = r.Unreadable // whose the container is, only its record would tell
		}
		alive := isListed || err != nil || r != nil && s.isOfOthers(r, shared)
		switch {
		case err != nil && !isListed && r == nil && s.store.Foreign(key):
			s.log.Warn("a file of the state directory is passed over: no container of that name, and no record", "err", err)
			continue
		case err != nil:
			s.unknown = true
			s.errs = append(s.errs, fmt.Errorf("container %s: no network's plugins are asked to collect until this is removed or mended: %w", id, err))
		}
		switch {
		case r == nil:
			nothing[key] = err == nil
			continue
		case !alive:
			s.dead = append(s.dead, key)
		}
		s.count(r, alive)
	}
	for _, a := range s.conf.ValidAttachments {
		if nothing[record.Key(a.ContainerID, a.IfName)] {
			s.unrecorded = append(s.unrecorded, a)
		}
	}
	return nil
}

// isOfOthers reports whether another configuration wrote the record, or may have: one that
// was rebuilt does not say, and others keep theirs in the same directory (shared).
func (s *sweep) isOfOthers(r *record.Record, shared bool) bool {
	return r.Network != s.conf.Name && (r.Network != "" || shared)
}

// found is what is known of a key.
type found struct {
	key    string
	record *record.Record // nil for nothing
	err    error
}

// find looks up all keys, and says whether another configuration has its state in the same
// directory. Then what is known from libcni's entries alone, which do not tell whose they
// are, may be the other's.
func (s *sweep) find(keys []string) (all []found, shared bool) {
	for _, key := range keys {
		_, ifname := record.Split(key)
		r, err := s.store.Find(key, ifname, nil)
		all = append(all, found{key, r, err})
		shared = shared || r != nil && r.Network != "" && r.Network != s.conf.Name
	}
	return all, shared
}

// count registers the networks of a container and, if it lives, its attachments.
func (s *sweep) count(r *record.Record, alive bool) {
	for _, e := range r.Entries {
		n := s.network(e.Attachment)
		if alive {
			n.valid[conf.Attachment{ContainerID: r.ContainerID, IfName: e.Ifname}] = true
		}
	}
}

// detachDead detaches dead containers for as long as one command may take; the
// next GC finds the others.
func (s *sweep) detachDead(ctx context.Context) {
	end := time.Now().Add(s.conf.Timeout.Delegate)
	for i, key := range s.dead {
		if time.Now().After(end) || ctx.Err() != nil {
			s.log.Warn("stale containers are left for the next GC", "count", len(s.dead)-i)
			return
		}
		if err := s.detachContainer(ctx, key); err != nil {
			s.errs = append(s.errs, fmt.Errorf("container %s: %w", key, err))
		}
	}
}

// detachContainer leaves alone what another command works on: it is alive.
func (s *sweep) detachContainer(ctx context.Context, key string) error {
	id, ifname := record.Split(key)
	now, cancel := context.WithCancel(ctx)
	cancel() // try the lock, do not wait
	release, err := s.store.Lock(now, id)
	locked := errors.Is(err, record.ErrLocked)
	if err != nil && !locked {
		return err
	}
	if !locked {
		defer release()
	}
	r, err := s.store.Find(key, ifname, nil) // it may have changed since
	if err == nil && r != nil {
		err = r.Unreadable
	}
	if err != nil || r == nil {
		s.unknown = s.unknown || err != nil
		return err
	}
	if locked {
		s.count(r, true)
		return nil
	}
	return s.detach(ctx, r, livingNetns(r.Netns))
}

// askRuntime looks up containers without a record in the results that the runtime itself keeps.
// One that was attached without a meta plugin has the network of that result and no other. Of
// the rest, such as after the state directory was lost, networks and interfaces stay unknown.
func (s *sweep) askRuntime() {
	var unknown []error
	s.direct, unknown = s.store.AttachedByRuntime(s.unrecorded)
	if len(unknown) > 0 {
		s.log.Warn("no network is collected until these have ended: neither a record nor a result of the runtime tells their networks",
			"containers", len(unknown), "err", brief.Join(unknown...))
		s.unknown = true
	}
}

// addConfigured adds the networks of the configuration, the default one with all containers
// that the runtime lists: those from before multus-shim was installed have no record.
func (s *sweep) addConfigured(ctx context.Context) {
	networks, err := s.configured(ctx)
	if err != nil {
		s.errs = append(s.errs, fmt.Errorf("default network: %w", err))
	}
	for i, network := range networks {
		n := s.network(bare(network))
		if i > 0 {
			continue // its interfaces have other names, which only records tell
		}
		for _, a := range s.conf.ValidAttachments {
			n.valid[a] = true
		}
	}
}

// collect runs GC of the networks' plugins.
func (s *sweep) collect(ctx context.Context) {
	if s.unknown {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(s.live)) {
		n := s.live[name]
		for _, a := range s.direct[name] {
			n.valid[a] = true
		}
		valid := slices.SortedFunc(maps.Keys(n.valid), func(a, b conf.Attachment) int {
			return cmp.Or(strings.Compare(a.ContainerID, b.ContainerID), strings.Compare(a.IfName, b.IfName))
		})
		for _, key := range slices.Sorted(maps.Keys(n.configurations)) {
			if err := s.runner.GC(ctx, n.configurations[key], valid); err != nil {
				s.errs = append(s.errs, fmt.Errorf("network %s: %w", name, err))
			}
		}
	}
}

// livingNetns is the recorded namespace if it is certainly still that one: a
// path below /proc may lead to another process by now.
func livingNetns(path string) string {
	if strings.HasPrefix(path, "/proc/") {
		return ""
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return path
}
