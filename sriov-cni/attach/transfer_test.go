// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"net"
	"testing"

	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/sriovkit/sriovkit/sriov-cni/request"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var podMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}

// Inside a virtual machine no PF is visible. The settings that the operator writes into every
// network are accepted there; settings that only a PF can make are refused.
func TestWithoutPF(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		request request.Request
		refused string // "" if it does
	}{
		"nothing":   {},
		"no VLAN":   {request: request.Request{Admin: vfstate.State{VLAN: &vfstate.VLAN{}}}},
		"own MAC":   {request: request.Request{MAC: podMAC, Admin: vfstate.State{MAC: podMAC}}},
		"own MTU":   {request: request.Request{MTU: 1400}},
		"VLAN":      {request: request.Request{Admin: vfstate.State{VLAN: &vfstate.VLAN{ID: 5}}}, refused: "vlan 5"},
		"trust off": {request: request.Request{Admin: vfstate.State{Trust: vfstate.Off}}, refused: "trust off"},
		"rate":      {request: request.Request{MaxRate: new(uint32(0))}, refused: "a rate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := Transfer{request: tc.request}
			err := x.prepareAdmin(t.Context())
			if tc.refused == "" {
				require.NoError(t, err)
				assert.Nil(t, x.Journal.PF)
				assert.True(t, x.Journal.Want.IsZero())
				return
			}
			assert.ErrorContains(t, err, "SRIOV-CNI failed to configure VF")
			assert.ErrorContains(t, err, tc.refused)
		})
	}
}
