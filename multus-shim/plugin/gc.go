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
	"github.com/sriovkit/sriovkit/multus-shim/plan"
	"github.com/sriovkit/sriovkit/multus-shim/record"
)

// gc detaches every container that the runtime does not list, and hands each
// network's plugins the attachments that are left of it. To a plugin GC means that
// whatever is not listed goes: the list holds the runtime's containers, recorded or
// not, and every record, whatever configuration wrote it; where that is not known
// to be all, no plugin is asked. Errors are collected.
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
	absent  bool     // the runtime lists a container of which nothing is recorded
	errs    []error
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

// survey reads what is known about all containers and tells the living from the
// dead. A record of another configuration is alive: its runtime was not asked.
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
	slices.Sort(keys)
	found, shared := s.find(slices.Compact(keys))
	for _, f := range found {
		key, r, err := f.key, f.record, f.err
		id, _ := record.Split(key)
		isListed := listed[id]
		if err == nil && r != nil && !isListed {
			err = r.Unreadable // whose the container is, only its record would tell
		}
		alive := isListed || err != nil || r != nil && r.Network != s.conf.Name && (r.Network != "" || shared)
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
			s.absent = s.absent || isListed
			continue
		case !alive:
			s.dead = append(s.dead, key)
		}
		s.count(r, alive)
	}
	return nil
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
	if !s.absent {
		return
	}
	// Who is listed and not recorded may have been attached to any network, under any
	// name of an interface; only that of the default network is known.
	for name := range s.live {
		if !isDefaultAlone(networks, name) {
			s.log.Warn("network is not collected: the runtime lists containers that nothing is recorded of", "network", name)
			delete(s.live, name)
		}
	}
}

// isDefaultAlone reports whether the name is that of the default network, which is the
// first, and of no further network that every pod gets.
func isDefaultAlone(networks []plan.Network, name string) bool {
	return len(networks) > 0 && networks[0].Config.Name == name &&
		!slices.ContainsFunc(networks[1:], func(n plan.Network) bool { return n.Config.Name == name })
}

// collect runs GC of the networks' plugins.
func (s *sweep) collect(ctx context.Context) {
	if s.unknown {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(s.live)) {
		n := s.live[name]
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
