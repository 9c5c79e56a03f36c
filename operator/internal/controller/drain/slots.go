// SPDX-License-Identifier: Apache-2.0

package drain

import (
	"maps"
	"slices"
	"sync"
)

// wakeAtOnce is how many waiting nodes of a pool are woken for one free slot: more than
// one, for the first may not want it any more, but not all of thousands.
const wakeAtOnce = 3

// slots of pools: a node holds one from before it is cordoned until it is given back.
// They live as long as the process, so that counting them costs no look at thousands of
// node states, and one that was just given out counts before any cache shows it.
type slots struct {
	mu      sync.Mutex
	held    map[string]string // node, its pool; "" is that of the nodes in none
	waiting map[string]string // the same, of the nodes that were refused one
}

// ask says what take would say, and takes nothing.
func (s *slots) ask(node, pool string, room int) (used int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.room(node, pool, room)
}

// take gives node a slot of its pool unless room are in use, and says how many are. What
// it holds already it keeps, also when there is less room now.
func (s *slots) take(node, pool string, room int) (used int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if used, ok = s.room(node, pool, room); ok {
		set(&s.held, node, pool)
		delete(s.waiting, node)
	}
	return used, ok
}

// room counts the slots in use, with node's if it may have one; else node waits.
func (s *slots) room(node, pool string, room int) (used int, ok bool) {
	for other, theirs := range s.held {
		if theirs == pool && other != node {
			used++
		}
	}
	if _, has := s.held[node]; used >= room && !has {
		set(&s.waiting, node, pool)
		return used, false
	}
	return used + 1, true
}

// nodes that hold a slot.
func (s *slots) nodes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.held))
}

// move notes that the slot of node, if it has one, is of another pool, and names nodes of
// the pool that it left that may have their turn now.
func (s *slots) move(node, pool string) (next []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left, has := s.held[node]
	if !has || left == pool {
		return nil
	}
	s.held[node] = pool
	return s.next(left)
}

// hold notes a slot that node has already, whether or not there is room. If it was counted
// in another pool, nodes of that are named that may have their turn now.
func (s *slots) hold(node, pool string) (next []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left, has := s.held[node]
	set(&s.held, node, pool)
	delete(s.waiting, node)
	if !has || left == pool {
		return nil
	}
	return s.next(left)
}

// forget removes a node from those that wait for a slot: what keeps it from being drained is
// something else.
func (s *slots) forget(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, node)
}

// free takes back what node holds or waits for, and names nodes that may have their
// turn now.
func (s *slots) free(node string) (next []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, node)
	pool, ok := s.held[node]
	if !ok {
		return nil
	}
	delete(s.held, node)
	return s.next(pool)
}

// next names waiting nodes of a pool that has a slot more.
func (s *slots) next(pool string) (next []string) {
	for other, theirs := range s.waiting {
		if theirs == pool {
			next = append(next, other)
		}
		if len(next) == wakeAtOnce {
			break
		}
	}
	return next
}

func set(m *map[string]string, key, value string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[key] = value
}
