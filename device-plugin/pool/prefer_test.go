// SPDX-License-Identifier: Apache-2.0

package pool_test

import (
	"fmt"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/stretchr/testify/require"
)

// members makes PFs with VFs named "pf.vf", PFs in NUMA nodes 0 and 1 by turns.
func members(pfs, vfs int) (all []pool.Member, ids []string) {
	for p := range pfs {
		parent := libsriov.Address{Bus: uint8(p + 1)}
		for v := range vfs {
			m := pool.Member{Device: pool.Device{ID: fmt.Sprintf("%d.%d", p, v), PF: &parent, Number: uint32(v)}}
			m.NUMANode = p % 2
			all, ids = append(all, m), append(ids, m.ID)
		}
	}
	return all, ids
}

func TestPrefer(t *testing.T) {
	t.Parallel()
	all, ids := members(4, 4)
	for name, tc := range map[string]struct {
		how             config.Preference
		available, must []string
		size            int
		want            []string
	}{
		"packed on one PF":           {config.Packed, ids, nil, 2, []string{"0.0", "0.1"}},
		"packed beside must":         {config.Packed, ids, []string{"2.3"}, 2, []string{"2.0", "2.3"}},
		"packed in the smallest fit": {config.Packed, []string{"0.0", "0.1", "0.2", "2.1", "2.2", "1.0"}, nil, 2, []string{"2.1", "2.2"}},
		"packed in one node":         {config.Packed, []string{"0.0", "1.0", "1.1", "2.0", "2.1"}, nil, 3, []string{"0.0", "2.0", "2.1"}},
		"packed over PFs, near":      {config.Packed, ids, nil, 6, []string{"0.0", "0.1", "0.2", "0.3", "2.0", "2.1"}},
		"spread":                     {config.Spread, ids, nil, 2, []string{"0.0", "2.0"}},
		"spread away from must":      {config.Spread, []string{"0.0", "0.1", "1.3", "0.2"}, []string{"0.1"}, 2, []string{"0.1", "1.3"}},
		"spread in one node":         {config.Spread, []string{"0.0", "1.0", "1.1", "2.0", "2.1"}, nil, 2, []string{"0.0", "2.0"}},
		"spread over the fullest":    {config.Spread, []string{"0.0", "2.0", "2.1"}, nil, 1, []string{"2.0"}},
		"spread over nodes if need":  {config.Spread, []string{"0.0", "0.1", "1.0"}, nil, 2, []string{"0.0", "1.0"}},
		"packed on fewest PFs": {
			config.Packed, []string{"0.1", "0.2", "0.3", "1.0", "1.1", "3.0"}, nil, 3, []string{"0.1", "0.2", "0.3"},
		},
		"too few":         {config.Packed, []string{"0.0"}, nil, 2, []string{"0.0"}},
		"must alone":      {config.Packed, ids, []string{"3.3"}, 1, []string{"3.3"}},
		"unknown devices": {config.Packed, []string{"9.9"}, []string{"8.8"}, 2, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, pool.Prefer(tc.how, all, tc.available, tc.must, tc.size))
		})
	}
}

func BenchmarkPrefer(b *testing.B) {
	all, ids := members(8, 128)
	for b.Loop() {
		pool.Prefer(config.Packed, all, ids, nil, 8)
	}
}
