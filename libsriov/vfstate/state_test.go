// SPDX-License-Identifier: Apache-2.0

package vfstate_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov/vfstate"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	full := vfstate.State{
		MAC: mac, VLAN: &vfstate.VLAN{ID: 100, QoS: 3, Proto: vfstate.Proto8021Q}, Rate: &vfstate.Rate{Max: 100},
		SpoofCheck: vfstate.On, LinkState: vfstate.LinkAuto, QueryRSS: vfstate.Off, Trust: vfstate.Off, NodeGUID: new(vfstate.GUID(1)), PortGUID: new(vfstate.GUID(2)),
	}
	for name, tc := range map[string]struct{ have, want, write vfstate.State }{
		"equal is silent":                  {have: full, want: full},
		"no wish, no write":                {have: full},
		"everything unknown":               {want: full, write: full},
		"trust only":                       {have: full, want: vfstate.State{Trust: vfstate.On}, write: vfstate.State{Trust: vfstate.On}},
		"protocol 0 is 802.1Q":             {have: full, want: vfstate.State{VLAN: &vfstate.VLAN{ID: 100, QoS: 3}}},
		"untagged has no protocol":         {have: vfstate.State{VLAN: &vfstate.VLAN{Proto: vfstate.Proto8021AD}}, want: vfstate.State{VLAN: &vfstate.VLAN{}}},
		"priority alone is a tag":          {have: vfstate.State{VLAN: &vfstate.VLAN{}}, want: vfstate.State{VLAN: &vfstate.VLAN{QoS: 1}}, write: vfstate.State{VLAN: &vfstate.VLAN{QoS: 1}}},
		"VLAN 0 where none can be told":    {want: vfstate.State{VLAN: &vfstate.VLAN{}}, write: vfstate.State{VLAN: &vfstate.VLAN{}}},
		"all-zero MAC is a wish":           {have: full, want: vfstate.State{MAC: make(net.HardwareAddr, 6)}, write: vfstate.State{MAC: make(net.HardwareAddr, 6)}},
		"rate of 0 lifts it":               {have: full, want: vfstate.State{Rate: &vfstate.Rate{}}, write: vfstate.State{Rate: &vfstate.Rate{}}},
		"a wish for the link state, alone": {have: full, want: vfstate.State{LinkState: vfstate.LinkDisable, SpoofCheck: vfstate.On}, write: vfstate.State{LinkState: vfstate.LinkDisable}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tc.write, vfstate.Diff(tc.have, tc.want))
		})
	}
}

func TestSplitKeepsTheKernelsOrder(t *testing.T) {
	t.Parallel()
	s := vfstate.State{Trust: vfstate.On, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, SpoofCheck: vfstate.Off, VLAN: &vfstate.VLAN{ID: 5}, PortGUID: new(vfstate.GUID(0x0102))}
	var got []string
	for _, p := range s.Split() {
		got = append(got, p.Attr+" "+p.Value)
		require.Len(t, p.State.Split(), 1)
	}
	assert.Equal(t, []string{
		"mac 02:00:00:00:00:01", "vlan 5 qos 0 proto 802.1q", "spoofchk off", "trust on", "port guid 00:00:00:00:00:00:01:02",
	}, got)
	assert.True(t, vfstate.State{}.IsZero())
	assert.False(t, s.IsZero())
}
