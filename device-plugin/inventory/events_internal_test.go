// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/event"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/stretchr/testify/require"
)

func address(t *testing.T, s string) libsriov.Address {
	t.Helper()
	a, err := libsriov.ParseAddress(s)
	require.NoError(t, err)
	return a
}

// The interfaces of pods that start and stop cost no look at the host.
func TestEventsThatConcernUs(t *testing.T) {
	t.Parallel()
	function := address(t, "0000:01:02.0")
	for name, tc := range map[string]struct {
		event event.Device
		want  bool
	}{
		"veth":                    {event.Device{Subsystem: "net", Path: "/devices/virtual/net/veth0"}, false},
		"queue of a veth":         {event.Device{Subsystem: "queues", Path: "/devices/virtual/net/veth0/queues/rx-0"}, false},
		"interface of a function": {event.Device{Subsystem: "net", Function: function}, true},
		"function":                {event.Device{Subsystem: "pci", Function: function}, true},
		"sub-function":            {event.Device{Subsystem: "auxiliary", Function: function}, true},
		"RDMA device":             {event.Device{Subsystem: "infiniband", Function: function}, true},
		"software RDMA device":    {event.Device{Subsystem: "infiniband", Path: "/devices/virtual/infiniband/rxe0"}, false},
		"disk":                    {event.Device{Subsystem: "block", Function: function}, false},
	} {
		require.Equal(t, tc.want, concerns(tc.event), name)
	}
}

func TestSettledVFs(t *testing.T) {
	t.Parallel()
	pf := address(t, "0000:01:00.0")
	vf := func(id string, lt libsriov.LinkType) pool.Device {
		return pool.Device{ID: id, Type: config.NetDevice, PF: &pf, LinkType: lt}
	}
	devices := []pool.Device{{ID: pf.String(), LinkType: libsriov.LinkEther}, vf("0000:01:02.0", libsriov.LinkEther), vf("0000:01:02.1", 0)}
	var s settled
	require.False(t, s.has("0000:01:02.0"), "nothing is known before the first look")
	s.settle(devices, pool.Needs{LinkType: true})
	require.True(t, s.has("0000:01:02.0"))
	require.False(t, s.has("0000:01:02.1"), "its interface is still to tell the link type")
	require.False(t, s.has(pf.String()))
	s.settle(devices, pool.Needs{})
	require.True(t, s.has("0000:01:02.1"))
}

func TestLinkEvents(t *testing.T) {
	t.Parallel()
	nic := link.Link{Index: 3, Name: "eth0", Parent: "0000:01:02.0"}
	enslaved, renamed := nic, nic
	enslaved.Master, renamed.Name = 7, "net1"
	const bridge = 8 // has the default route
	macvlan := link.Link{Index: 9, Kind: "macvlan", Lower: 3}
	vlan := link.Link{Index: 10, Kind: "vlan", Lower: 3}
	port := vlan
	port.Master = bridge
	change := func(l link.Link) event.Link { return event.Link{Action: event.Change, Link: l} }
	for name, tc := range map[string]struct {
		settled bool
		events  []event.Link
		want    []bool
	}{
		"macvlan of a pod":          {false, []event.Link{change(macvlan), {Action: event.Remove, Link: macvlan}}, []bool{false, false}},
		"VLAN below the route":      {false, []event.Link{change(vlan), change(port), change(vlan)}, []bool{false, true, true}},
		"bridge of the route":       {false, []event.Link{change(link.Link{Index: bridge, Kind: "bridge"}), {Action: event.Remove, Link: link.Link{Index: bridge, Kind: "bridge"}}}, []bool{true, true}},
		"veth":                      {false, []event.Link{change(link.Link{Index: 9, Kind: "veth"})}, []bool{false}},
		"new":                       {false, []event.Link{change(nic), change(nic)}, []bool{true, false}},
		"renamed":                   {false, []event.Link{change(nic), change(renamed)}, []bool{true, true}},
		"gone":                      {false, []event.Link{change(nic), {Action: event.Remove, Link: nic}}, []bool{true, true}},
		"missed":                    {true, []event.Link{{Action: event.Missed}}, []bool{true}},
		"VF into a pod and back":    {true, []event.Link{change(nic), {Action: event.Remove, Link: nic}, change(nic)}, []bool{false, false, false}},
		"VF becomes a bond's port":  {true, []event.Link{change(nic), change(enslaved), change(nic)}, []bool{false, true, true}},
		"port of a bond disappears": {true, []event.Link{change(enslaved), {Action: event.Remove, Link: enslaved}}, []bool{true, true}},
	} {
		seen := linkStates{}
		for i, e := range tc.events {
			require.Equal(t, tc.want[i], seen.changed(e, tc.settled, func(index int) bool { return index == bridge }), "%s: event %d", name, i)
		}
	}
}
