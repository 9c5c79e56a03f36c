package plugin

import (
	"testing"

	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Inside a virtual machine there is no PF to tell anything. What the operator
// always writes into networks must do there, what cannot be had must not pass
// for granted.
func TestWithoutPF(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		request request
		refused string // "" if it does
	}{
		"nothing":   {},
		"no VLAN":   {request: request{Admin: vfstate.State{VLAN: &vfstate.VLAN{}}}},
		"own MAC":   {request: request{MAC: podMAC, Admin: vfstate.State{MAC: podMAC}}},
		"own MTU":   {request: request{MTU: 1400}},
		"VLAN":      {request: request{Admin: vfstate.State{VLAN: &vfstate.VLAN{ID: 5}}}, refused: "vlan 5"},
		"trust off": {request: request{Admin: vfstate.State{Trust: vfstate.Off}}, refused: "trust off"},
		"rate":      {request: request{MaxRate: new(uint32(0))}, refused: "a rate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := transfer{}
			err := x.prepareAdmin(tc.request)
			if tc.refused == "" {
				require.NoError(t, err)
				assert.Nil(t, x.journal.PF)
				assert.True(t, x.journal.Want.IsZero())
				return
			}
			assert.ErrorContains(t, err, "SRIOV-CNI failed to configure VF")
			assert.ErrorContains(t, err, tc.refused)
		})
	}
}
