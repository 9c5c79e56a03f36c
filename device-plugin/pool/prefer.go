package pool

import (
	"slices"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/libsriov"
)

// Prefer chooses size devices of those available, must among them, and names
// them in the order in which the pool lists them. It names fewer if there are
// not enough; kubelet then decides by itself.
func Prefer(how config.Preference, members []Member, available, must []string, size int) []string {
	chosen := make(map[string]bool, size)
	for _, id := range must {
		chosen[id] = true
	}
	offered := make(map[string]bool, len(available))
	for _, id := range available {
		offered[id] = true
	}
	var free []*Member
	used := map[libsriov.Address]int{} // devices chosen by parent
	nodes := map[int]int{}             // and by NUMA node
	for i := range members {
		m := &members[i]
		switch {
		case chosen[m.ID]:
			used[m.Parent()]++
			nodes[m.NUMANode]++
		case offered[m.ID]:
			free = append(free, m)
		}
	}
	for len(chosen) < size && len(free) > 0 {
		best := 0
		left := countFree(free)
		for i := range free {
			if better(how, free[i], free[best], used, nodes, left, size-len(chosen)) {
				best = i
			}
		}
		m := free[best]
		free = slices.Delete(free, best, best+1)
		chosen[m.ID] = true
		used[m.Parent()]++
		nodes[m.NUMANode]++
	}
	var out []string
	for i := range members {
		if chosen[members[i].ID] {
			out = append(out, members[i].ID)
		}
	}
	return out
}

// supply is how many devices are free, by parent and by NUMA node.
type supply struct {
	parent map[libsriov.Address]int
	node   map[int]int
}

func countFree(free []*Member) supply {
	s := supply{map[libsriov.Address]int{}, map[int]int{}}
	for _, m := range free {
		s.parent[m.Parent()]++
		s.node[m.NUMANode]++
	}
	return s
}

// better tells whether a is a better next choice than b, which comes first in
// the pool. need is how many are still to be chosen.
func better(how config.Preference, a, b *Member, used map[libsriov.Address]int, nodes map[int]int, left supply, need int) bool {
	pa, pb := a.Parent(), b.Parent()
	if how == config.Spread {
		if used[pa] != used[pb] {
			return used[pa] < used[pb]
		}
		return left.parent[pa] > left.parent[pb]
	}
	if nodes[a.NUMANode] != nodes[b.NUMANode] {
		return nodes[a.NUMANode] > nodes[b.NUMANode]
	}
	if used[pa] != used[pb] {
		return used[pa] > used[pb]
	}
	if c := fit(left.node[a.NUMANode], left.node[b.NUMANode], need); a.NUMANode != b.NUMANode && c != 0 {
		return c < 0
	}
	return fit(left.parent[pa], left.parent[pb], need) < 0
}

// fit compares two supplies: below 0 if x is the better one. The best is the
// smallest that has enough, which leaves the large ones whole; else the largest.
func fit(x, y, need int) int {
	switch {
	case x >= need && y >= need:
		return x - y
	default:
		return y - x
	}
}
