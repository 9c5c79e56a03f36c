// SPDX-License-Identifier: Apache-2.0

package libsriov_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

// An interface is a function's own, or the answer is that it is not: never another's
// that has the name by now.
func TestNetdevIsTheFunctions(t *testing.T) {
	t.Parallel()
	root := sriovtest.Captured(t, "igb-node")
	h, err := libsriov.Open(root)
	require.NoError(t, err)
	s, err := h.Snapshot()
	require.NoError(t, err)
	tried := 0
	for _, pf := range s.PFs {
		for _, vf := range pf.VFs {
			for _, name := range vf.Netdevs {
				tried++
				want, err := h.IfIndex(name)
				require.NoError(t, err)
				got, err := h.NetdevIndex(vf.Address, name)
				require.NoError(t, err)
				assert.Equal(t, want, got)
				uppers, err := h.NetdevUppers(vf.Address, name)
				require.NoError(t, err)
				assert.Empty(t, uppers)

				for _, name := range []string{pf.Netdevs[0], "none-such", "../x", ""} {
					_, err = h.NetdevIndex(vf.Address, name)
					require.Error(t, err)
					_, err = h.NetdevUppers(vf.Address, name)
					require.Error(t, err)
				}
				_, err = h.NetdevIndex(pf.Address, name)
				require.ErrorIs(t, err, libsriov.ErrNoNetdev)
			}
		}
	}
	require.NotZero(t, tried)

	pf := s.PFs[0]
	dir, err := filepath.EvalSymlinks(filepath.Join(root, "sys/class/net", pf.Netdevs[0]))
	require.NoError(t, err)
	require.NoError(t, os.Symlink("../br0", filepath.Join(dir, "upper_br0")))
	uppers, err := h.NetdevUppers(pf.Address, pf.Netdevs[0])
	require.NoError(t, err)
	assert.Equal(t, []string{"br0"}, uppers)
}
