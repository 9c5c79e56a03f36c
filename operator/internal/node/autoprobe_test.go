// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov/event"
	"github.com/sriovkit/sriovkit/libsriov/link"

	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

func TestBare(t *testing.T) {
	t.Parallel()
	create := plan.Step{Op: plan.OpCreate, Num: 2}
	bind := func(vf int, driver string) plan.Step { return plan.Step{Op: plan.OpBind, VF: vf, Driver: driver} }
	for name, tc := range map[string]struct {
		steps []plan.Step
		want  bool
	}{
		"nothing":             {nil, false},
		"all for user space":  {[]plan.Step{create, bind(0, "vfio-pci"), bind(1, "vfio-pci")}, true},
		"some for user space": {[]plan.Step{create, bind(0, ""), bind(1, "vfio-pci")}, true},
		"one in no group":     {[]plan.Step{create, bind(1, "vfio-pci")}, false},
		"none for user space": {[]plan.Step{create, bind(0, ""), bind(1, "")}, false},
		"none is made":        {[]plan.Step{bind(0, "vfio-pci"), bind(1, "vfio-pci")}, false},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tc.want, bare(tc.steps)) })
	}
}

// probing asserts that autoprobe of the first PF is on or off and that no mark is left.
func (b *bench) probing(want bool) {
	b.t.Helper()
	on, err := b.Host.Autoprobe(b.addr(b.pfs[0]))
	require.NoError(b.t, err)
	require.Equal(b.t, want, on)
	marked, err := b.Files.markedBare(b.addr(b.pfs[0]))
	require.NoError(b.t, err)
	require.False(b.t, marked)
}

// VFs for user space are never bound to their network driver.
func TestNodeVFsForUserSpaceAreMadeBare(t *testing.T) {
	b := newBench(t)
	devices, err := event.OpenDevices()
	require.NoError(t, err)
	defer devices.Close()
	user := pol("user", "dpdk", b.pf(b.pfs[0]).Name, "#0-1", 3, "vfio-pci")
	kernel := pol("kernel", "nics", b.pf(b.pfs[0]).Name, "#2-2", 3, "")
	require.NoError(t, b.apply(user, kernel))
	require.Equal(t, "vfio-pci vfio-pci igbvf", b.converged(b.pfs[0], user, kernel))
	b.probing(true)
	bound := map[string]int{}
	for len(bound) < 2 || bound["vfio-pci"] < 2 {
		e, err := devices.Next(t.Context())
		require.NoError(t, err)
		if e.Subsystem == "pci" && e.Action == event.Bind {
			bound[e.Driver]++
		}
	}
	require.Equal(t, map[string]int{"vfio-pci": 2, "igbvf": 1}, bound)

	t.Log("who switched probing off for good finds it so")
	require.NoError(t, b.apply())
	require.NoError(t, b.Host.SetAutoprobe(t.Context(), b.addr(b.pfs[0]), false))
	t.Cleanup(func() { require.NoError(t, b.Host.SetAutoprobe(context.Background(), b.addr(b.pfs[0]), true)) })
	p := pol("p", "dpdk", b.pfs[0], "", 2, "vfio-pci")
	require.NoError(t, b.apply(p))
	b.converged(b.pfs[0], p)
	b.probing(false)
}

// A VF that was created without a driver and that vfio-pci refuses gets its network driver.
func TestNodeBareVFThatIsRefused(t *testing.T) {
	b := newBench(t)
	pf := b.pf(b.pfs[0])
	err := b.Apply(t.Context(), plan.Work{PF: b.pfs[0], Steps: []plan.Step{
		{Op: plan.OpLinkUp}, {Op: plan.OpCreate, Num: 2}, {Op: plan.OpBind, VF: 0, Driver: "no-such-driver"}, {Op: plan.OpBind, VF: 1, Driver: "vfio-pci"},
	}}, &pf, plan.Owned{})
	require.ErrorContains(t, err, "VF 0 of "+b.pfs[0])
	require.Equal(t, "igbvf vfio-pci", b.drivers(b.pfs[0]))
	b.probing(true)
}

// VFs that a killed daemon left without drivers get one, whatever the spec says by then.
func TestNodeKilledWhileVFsAreBare(t *testing.T) {
	b := newBench(t)
	pf := b.addr(b.pfs[0])
	require.NoError(t, setLink(pf, link.Update{Up: new(true)}))
	require.NoError(t, b.Files.markBare(pf))
	require.NoError(t, b.Host.SetAutoprobe(t.Context(), pf, false))
	require.NoError(t, b.Host.SetNumVFs(t.Context(), pf, 2))
	p := pol("p", "nics", b.pf(b.pfs[0]).Name, "#1-1", 2, "")
	require.NoError(t, b.apply(p))
	require.Equal(t, "igbvf igbvf", b.converged(b.pfs[0], p), "also the one in no group")
	b.probing(true)
}
