// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"testing"

	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/stretchr/testify/require"
)

// PF and VFs of virtio have one driver and one device ID: what selects by them offers
// the VFs and never the PF.
func TestNodeVirtio(t *testing.T) {
	h, pf := sriovtest.VirtioVFs(t, 3)
	n := realNode(t, pool("a", `"vendors": ["1af4"], "devices": ["1041"], "drivers": ["virtio-pci"], "linkTypes": ["ether"]`), pool("b", rootDevice(pf.Address)+`, "drivers": ["vfio-pci"]`))
	k := n.kubelet()
	n.start()
	ids := addresses(pf.VFs)
	k.AwaitDevices(a, ids...)
	require.NoError(t, h.BindDriver(t.Context(), pf.VFs[1].Address, "vfio-pci"))
	k.AwaitDevices(b, ids[1])
	k.AwaitDevices(a, ids[0], ids[2])
	r, err := k.Allocate(a, ids[2])
	require.NoError(t, err)
	require.NotEmpty(t, r.Envs)
	require.NoError(t, h.SetNumVFs(t.Context(), pf.Address, 0))
	k.AwaitDevices(a, ids[2]+"!") // it was given to somebody
}
