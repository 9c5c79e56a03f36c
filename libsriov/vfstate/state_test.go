package vfstate_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/sriovkit/sriovkit/libsriov/vfstate"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	full := State{
		MAC: mac, VLAN: &VLAN{ID: 100, QoS: 3, Proto: Proto8021Q}, Rate: &Rate{Max: 100},
		SpoofCheck: On, LinkState: LinkAuto, QueryRSS: Off, Trust: Off, NodeGUID: new(GUID(1)), PortGUID: new(GUID(2)),
	}
	for name, tc := range map[string]struct{ have, want, write State }{
		"equal is silent":                  {have: full, want: full},
		"no wish, no write":                {have: full},
		"everything unknown":               {want: full, write: full},
		"trust only":                       {have: full, want: State{Trust: On}, write: State{Trust: On}},
		"protocol 0 is 802.1Q":             {have: full, want: State{VLAN: &VLAN{ID: 100, QoS: 3}}},
		"untagged has no protocol":         {have: State{VLAN: &VLAN{Proto: Proto8021AD}}, want: State{VLAN: &VLAN{}}},
		"priority alone is a tag":          {have: State{VLAN: &VLAN{}}, want: State{VLAN: &VLAN{QoS: 1}}, write: State{VLAN: &VLAN{QoS: 1}}},
		"VLAN 0 where none can be told":    {want: State{VLAN: &VLAN{}}, write: State{VLAN: &VLAN{}}},
		"all-zero MAC is a wish":           {have: full, want: State{MAC: make(net.HardwareAddr, 6)}, write: State{MAC: make(net.HardwareAddr, 6)}},
		"rate of 0 lifts it":               {have: full, want: State{Rate: &Rate{}}, write: State{Rate: &Rate{}}},
		"a wish for the link state, alone": {have: full, want: State{LinkState: LinkDisable, SpoofCheck: On}, write: State{LinkState: LinkDisable}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tc.write, Diff(tc.have, tc.want))
		})
	}
}

func TestSplitKeepsTheKernelsOrder(t *testing.T) {
	t.Parallel()
	s := State{Trust: On, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, SpoofCheck: Off, VLAN: &VLAN{ID: 5}, PortGUID: new(GUID(0x0102))}
	var got []string
	for _, p := range s.Split() {
		got = append(got, p.Attr+" "+p.Value)
		require.Len(t, p.State.Split(), 1)
	}
	assert.Equal(t, []string{
		"mac 02:00:00:00:00:01", "vlan 5 qos 0 proto 802.1q", "spoofchk off", "trust on", "port guid 00:00:00:00:00:00:01:02",
	}, got)
	assert.True(t, State{}.IsZero())
	assert.False(t, s.IsZero())
}
