// SPDX-License-Identifier: Apache-2.0

package node

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/libsriov/event"
	"github.com/sriovkit/sriovkit/libsriov/link"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// A link event is news if it differs from the last observation.
func TestLinkEvents(t *testing.T) {
	says := func(parent string, mtu int, up bool) event.Link {
		l := link.Link{Parent: parent, MTU: mtu}
		if up {
			l.Flags = unix.IFF_UP
		}
		return event.Link{Action: event.Change, Link: l}
	}
	var h hardware
	require.False(t, h.noteEvent(says("pf", 1500, true)), "nobody has looked yet, but will")
	found := []v1.InterfaceExt{{
		PciAddress: "pf", Name: "ens1", Mtu: 9000, LinkAdminState: "up",
		VFs: []v1.VirtualFunction{{PciAddress: "vf0", Name: "ens1v0", Mtu: 9000}, {PciAddress: "vf1"}},
	}}
	h.noteLinks(found)
	for name, tc := range map[string]struct {
		e    event.Link
		news bool
	}{
		"as seen":                     {says("pf", 9000, true), false},
		"MTU of the PF":               {says("pf", 1500, true), true},
		"the PF down":                 {says("pf", 9000, false), true},
		"a VF down is its user's":     {says("vf0", 9000, false), false},
		"MTU of a VF":                 {says("vf0", 1500, true), true},
		"a VF that was not there":     {says("vf1", 1500, true), false},
		"a device of somebody else's": {says("other", 1500, true), false},
		"no device at all":            {says("", 1500, true), false},
		"some were missed":            {event.Link{Action: event.Missed}, true},
		"one went":                    {event.Link{Action: event.Remove, Link: link.Link{Parent: "pf"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			h.noteLinks(found)
			require.True(t, h.upToDate())
			require.Equal(t, tc.news, h.noteEvent(tc.e))
			require.Equal(t, !tc.news, h.upToDate())
			h.noteEvent(says("pf", 9000, true))
			h.noteEvent(says("vf0", 9000, true))
			require.Equal(t, name != "some were missed", h.upToDate(), "what is as seen again needs no look")
		})
	}

	h.noteLinks(found)
	require.True(t, h.noteEvent(says("pf", 1500, true)))
	found[0].Mtu = 1500
	h.noteLinks(found)
	require.True(t, h.upToDate(), "a look has seen it")
}
