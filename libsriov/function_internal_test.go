// SPDX-License-Identifier: Apache-2.0

package libsriov

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzParseUevent: a function or an error, and what is understood survives
// being written out and read again.
func FuzzParseUevent(f *testing.F) {
	f.Add("DRIVER=igb\nPCI_CLASS=20000\nPCI_ID=8086:10C9\nPCI_SUBSYS_ID=1AF4:1100\nPCI_SLOT_NAME=0000:01:00.0\nMODALIAS=pci:x\n")
	f.Add("PCI_CLASS=20000\nPCI_ID=8086:10C9")
	f.Add("PCI_CLASS=\nPCI_ID=:")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		fn, err := parseUevent(text)
		if err != nil {
			require.Equal(t, Function{}, fn)
			return
		}
		again, err := parseUevent(fmt.Sprintf("DRIVER=%s\nPCI_CLASS=%X\nPCI_ID=%04X:%04X\nPCI_SUBSYS_ID=%04X:%04X\n",
			fn.Driver, uint32(fn.Class), uint16(fn.Vendor), uint16(fn.Device), uint16(fn.SubsystemVendor), uint16(fn.SubsystemDevice)))
		require.NoError(t, err)
		require.Equal(t, fn, again)
	})
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct{ aux, uplink bool }{
		"mlx5_core.sf.2": {aux: true}, "ice.rdma.0": {aux: true},
		"mlx5_core.sf": {}, "mlx5_core.sf.": {}, "mlx5_core.sf.x": {}, ".sf.2": {}, "a..2": {}, "a:b.sf.2": {}, "a.b.c.2": {}, "0000:af:06.0": {}, "": {},
		"p0": {uplink: true}, "p12s3": {uplink: true},
		"p": {}, "p0s": {}, "p0sx": {}, "pf0vf3": {}, "xp0": {}, "p0s1s2": {}, "c1pf0sf88": {},
	} {
		require.Equal(t, want.aux, isAuxName(name), name)
		require.Equal(t, want.uplink, isUplinkPort(name), name)
	}
}
