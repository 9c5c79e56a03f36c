// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"cmp"
	"maps"
	"slices"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/libsriov"
)

// Prefer chooses size devices of those available, must among them, and names
// them in the order in which the pool lists them. It names fewer if there are
// not enough; kubelet then decides by itself.
//
// Packed takes the fewest NUMA nodes, on those the fewest PFs, and of what is equal in that
// what leaves the large PFs whole. Spread takes the most PFs, of those on the fewest NUMA
// nodes, and as many devices of each as of the others.
func Prefer(how config.Preference, members []Member, available, must []string, size int) []string {
	c := newChoice(members, available, must)
	c.nodes = c.chooseNodes(how, size)
	if how == config.Spread {
		c.spread(size)
	} else {
		c.pack(size)
	}
	var out []string
	for i := range members {
		if c.chosen[members[i].ID] {
			out = append(out, members[i].ID)
		}
	}
	return out
}

// choice is the set of devices chosen so far.
type choice struct {
	chosen map[string]bool
	pfs    []*supply // in the order of the pool
	nodes  map[int]bool
}

// supply is what a PF has to give.
type supply struct {
	pf   libsriov.Address
	node int      // NUMA node
	free []string // in the order of the pool
	used int      // devices chosen
}

func newChoice(members []Member, available, must []string) *choice {
	c := &choice{chosen: map[string]bool{}}
	for _, id := range must {
		c.chosen[id] = true
	}
	offered := make(map[string]bool, len(available))
	for _, id := range available {
		offered[id] = true
	}
	type key struct {
		pf   libsriov.Address
		node int
	}
	byPF := map[key]*supply{}
	for i := range members {
		m := &members[i]
		isMust := c.chosen[m.ID]
		if !isMust && !offered[m.ID] {
			continue
		}
		k := key{m.Parent(), m.NUMANode}
		s := byPF[k]
		if s == nil {
			s = &supply{pf: k.pf, node: k.node}
			byPF[k] = s
			c.pfs = append(c.pfs, s)
		}
		if isMust {
			s.used++
		} else {
			s.free = append(s.free, m.ID)
		}
	}
	return c
}

// need is how many devices are still to be chosen.
func (c *choice) need(size int) int { return max(0, size-len(c.chosen)) }

// take chooses the next n devices of a PF.
func (c *choice) take(s *supply, n int) {
	for _, id := range s.free[:n] {
		c.chosen[id] = true
	}
	s.free, s.used = s.free[n:], s.used+n
}

// candidates are the PFs of the chosen nodes that have something to give.
func (c *choice) candidates() []*supply {
	return slices.DeleteFunc(slices.Clone(c.pfs), func(s *supply) bool { return len(s.free) == 0 || !c.nodes[s.node] })
}

// pack takes what is left of the PFs that are in use, and then as few others as will do.
func (c *choice) pack(size int) {
	pfs := c.candidates()
	slices.SortStableFunc(pfs, func(a, b *supply) int { // the fullest first, for equal ones the pool's order
		return cmp.Or(-cmp.Compare(min(a.used, 1), min(b.used, 1)), -cmp.Compare(len(a.free), len(b.free)))
	})
	for len(pfs) > 0 && c.need(size) > 0 {
		best := 0
		if pfs[0].used == 0 {
			// The last one is the smallest that is large enough.
			for i, s := range pfs {
				if len(s.free) >= c.need(size) && len(s.free) < len(pfs[best].free) {
					best = i
				}
			}
		}
		c.take(pfs[best], min(len(pfs[best].free), c.need(size)))
		pfs = slices.Delete(pfs, best, best+1)
	}
}

// spread takes a device at a time from the PF that has given the least, of equal ones from
// the one with the most left.
func (c *choice) spread(size int) {
	for pfs := c.candidates(); len(pfs) > 0 && c.need(size) > 0; pfs = c.candidates() {
		best := slices.MinFunc(pfs, func(a, b *supply) int {
			return cmp.Or(cmp.Compare(a.used, b.used), -cmp.Compare(len(a.free), len(b.free)))
		})
		c.take(best, 1)
	}
}

// maxNodes bounds the search: 2^12 sets of NUMA nodes. Beyond it all nodes will do.
const maxNodes = 12

// chooseNodes finds the NUMA nodes to choose from: those in use, and of the others the fewest
// that together have enough. Of equally many it takes those where packed needs the fewest
// PFs, and then those with the least to spare.
func (c *choice) chooseNodes(how config.Preference, size int) map[int]bool {
	inUse, others := map[int]bool{}, []int{}
	for _, s := range c.pfs {
		if s.used > 0 {
			inUse[s.node] = true
		}
	}
	all := maps.Clone(inUse)
	for _, s := range c.pfs {
		if !all[s.node] {
			all[s.node] = true
			others = append(others, s.node)
		}
	}
	if len(others) > maxNodes {
		return all
	}
	full := c.judge(how, all, size)
	best, found := all, full
	for set := range 1 << len(others) {
		nodes := maps.Clone(inUse)
		for i, n := range others {
			if set&(1<<i) != 0 {
				nodes[n] = true
			}
		}
		j := c.judge(how, nodes, size)
		if j.reaches(full, how) && j.better(found) {
			best, found = nodes, j
		}
	}
	return best
}

// judgement says what a set of nodes is worth.
type judgement struct{ devices, pfs, nodes, spare int }

// reaches reports whether a set gives as many devices, and if they are to be spread as many
// PFs, as all nodes together.
func (j judgement) reaches(full judgement, how config.Preference) bool {
	return j.devices >= full.devices && (how != config.Spread || j.pfs >= full.pfs)
}

func (j judgement) better(than judgement) bool {
	return cmp.Or(cmp.Compare(j.nodes, than.nodes), cmp.Compare(j.pfs, than.pfs), cmp.Compare(j.spare, than.spare)) < 0
}

func (c *choice) judge(how config.Preference, nodes map[int]bool, size int) judgement {
	trial := &choice{chosen: maps.Clone(c.chosen), nodes: nodes}
	spare := 0
	for _, s := range c.pfs {
		trial.pfs = append(trial.pfs, new(*s))
		if nodes[s.node] {
			spare += len(s.free)
		}
	}
	if how == config.Spread {
		trial.spread(size)
	} else {
		trial.pack(size)
	}
	j := judgement{devices: len(trial.chosen), nodes: len(nodes), spare: spare}
	used := map[libsriov.Address]bool{}
	for _, s := range trial.pfs {
		if s.used > 0 {
			used[s.pf] = true
		}
	}
	j.pfs = len(used)
	return j
}
