// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

func TestVFsWithoutAdministrativeMAC(t *testing.T) {
	f := Files{Root: t.TempDir()}
	mac := func(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, last} }
	at := func(n uint8) libsriov.Address { return libsriov.Address{Bus: 1, Device: n} }
	vf := func(n uint8, own string) v1.VirtualFunction {
		return v1.VirtualFunction{PciAddress: at(n).String(), VfID: int(n), Mac: own}
	}
	own := func(n byte) string { return mac(n).String() }
	require.NoError(t, f.noteMAC(at(3), mac(3)))
	require.NoError(t, f.noteMAC(at(4), mac(9)))
	found := Found{
		Interfaces: []v1.InterfaceExt{{VFs: []v1.VirtualFunction{vf(0, ""), vf(1, own(1)), vf(2, own(2)), vf(3, own(3)), vf(4, own(4)), vf(5, ""), vf(6, own(6))}}},
		MACs: map[string]net.HardwareAddr{
			at(0).String(): make(net.HardwareAddr, 6), // none
			at(1).String(): mac(1),                    // the VF's own choice
			at(2).String(): mac(7),                    // somebody's
			at(3).String(): mac(3),                    // given here
			at(4).String(): mac(4),                    // the VF was made anew since
			at(5).String(): mac(5),                    // of a VF in a pod
			// 6: not told
		},
	}
	require.Equal(t, map[string]bool{at(0).String(): true, at(1).String(): true, at(4).String(): true}, f.noMAC(found))
}
