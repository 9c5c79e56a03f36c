// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

func TestRandomGUIDs(t *testing.T) {
	seen := map[vfstate.GUID]bool{}
	for range 100 {
		g, err := chooseGUID("")
		require.NoError(t, err)
		require.EqualValues(t, 0x02, g>>56&0x03, "%s: administered locally, not a group's", g)
		require.False(t, seen[g])
		seen[g] = true
	}
	g, err := chooseGUID("02:00:00:00:00:00:01:0a")
	require.NoError(t, err)
	require.Equal(t, "02:00:00:00:00:00:01:0a", g.String())
	_, err = chooseGUID("02:00:00:00:01:0a")
	require.Error(t, err)
}

func TestGUIDFile(t *testing.T) {
	f := Files{Root: t.TempDir()}
	require.Nil(t, f.GUIDs(), "no file is no pool")
	path := filepath.Join(f.Root, f.stateDir(), guidsFile)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte("["), 0o600))
	pf := v1.InterfaceExt{PciAddress: "0000:01:00.0", Driver: "mlx5_core", TotalVfs: 1, LinkType: v1.LinkTypeIB}
	spec := v1.SriovNetworkNodeStateSpec{Interfaces: []v1.Interface{{PciAddress: pf.PciAddress, NumVfs: 1, VfGroups: []v1.VfGroup{{VfRange: "0-0"}}}}}
	_, problems := plan.Steps(plan.Have{Interfaces: []v1.InterfaceExt{pf}, GUIDs: f.GUIDs()}, spec)
	require.Len(t, problems, 1)
	require.ErrorContains(t, problems[0].Err, "/etc/sriov-operator/infiniband/guids: GUID pool: unexpected end")
}

// The request reaches the kernel, which refuses it for a PF that is not InfiniBand;
// the driver of the VF is left where it is.
func TestNodeGUIDOnEthernet(t *testing.T) {
	b := newBench(t)
	p := pol("p", "nics", b.pfs[0], "", 1, "")
	require.NoError(t, b.apply(p))
	pf := b.pf(b.pfs[0])
	work := plan.Work{PF: pf.PciAddress, Steps: []plan.Step{{Op: plan.OpGUID, GUID: "02:00:00:00:00:00:01:0a"}, {Op: plan.OpBind}}}
	err := b.Apply(t.Context(), work, &pf, plan.Owned{})
	require.ErrorContains(t, err, "VF 0 of "+pf.PciAddress+": set node guid 02:00:00:00:00:00:01:0a on VF 0")
	var attr *link.AttributeError
	require.ErrorAs(t, err, &attr)
	require.Equal(t, "igbvf", b.converged(pf.PciAddress, p))
}
