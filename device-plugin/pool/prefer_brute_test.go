// SPDX-License-Identifier: Apache-2.0

package pool_test

import (
	"cmp"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/stretchr/testify/require"
)

// worth is what counts of a set of devices.
type worth struct{ nodes, pfs int }

func worthOf(all []pool.Member, chosen func(i int) bool) worth {
	nodes, pfs := map[int]bool{}, map[libsriov.Address]bool{}
	for i := range all {
		if chosen(i) {
			nodes[all[i].NUMANode], pfs[all[i].Parent()] = true, true
		}
	}
	return worth{len(nodes), len(pfs)}
}

// Against every possible choice, on random pools: packed never takes more NUMA nodes than
// needed, nor on so many nodes more PFs; spread never takes fewer PFs than it could, nor
// with so many PFs more nodes.
func TestPreferIsNeverWorseThanBruteForce(t *testing.T) {
	t.Parallel()
	const pools = 20_000
	random := rand.New(rand.NewPCG(1, 2))
	for n := range pools {
		var all []pool.Member
		var available, must []string
		for p := range 1 + random.IntN(5) {
			parent, node := libsriov.Address{Bus: uint8(p + 1)}, random.IntN(4)-1
			for v := range random.IntN(5) {
				m := pool.Member{Device: pool.Device{ID: fmt.Sprintf("%d.%d", p, v), PF: &parent, Number: uint32(v)}}
				m.NUMANode = node
				all = append(all, m)
			}
		}
		if len(all) == 0 || len(all) > 12 {
			continue
		}
		isMust, isFree := 0, 0
		for i := range all {
			switch k := random.IntN(10); {
			case k == 0:
				must, isMust = append(must, all[i].ID), isMust|1<<i
			case k < 8:
				available, isFree = append(available, all[i].ID), isFree|1<<i
			}
		}
		size := len(must)
		if len(available) > 0 {
			size += random.IntN(len(available) + 1)
		}
		packed, spread := worth{99, 99}, worth{99, -1}
		for set := range 1 << len(all) {
			if bits.OnesCount(uint(set)) != size || set&isMust != isMust || set&^(isMust|isFree) != 0 {
				continue
			}
			w := worthOf(all, func(i int) bool { return set&(1<<i) != 0 })
			if cmp.Or(cmp.Compare(w.nodes, packed.nodes), cmp.Compare(w.pfs, packed.pfs)) < 0 {
				packed = w
			}
			if cmp.Or(-cmp.Compare(w.pfs, spread.pfs), cmp.Compare(w.nodes, spread.nodes)) < 0 {
				spread = w
			}
		}
		for how, want := range map[config.Preference]worth{config.Packed: packed, config.Spread: spread} {
			got := pool.Prefer(how, all, available, must, size)
			require.Len(t, got, size)
			chosen := map[string]bool{}
			for _, id := range got {
				chosen[id] = true
			}
			for _, id := range must {
				require.True(t, chosen[id])
			}
			require.Equal(t, want, worthOf(all, func(i int) bool { return chosen[all[i].ID] }),
				"pool %d, %s: available %v, must %v, size %d: chose %v", n, how, available, must, size, got)
		}
	}
}
