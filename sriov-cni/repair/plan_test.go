// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

var (
	ownMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	podMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

func exampleLink() link.Link {
	return link.Link{Index: 7, Name: "ens1v0", MAC: ownMAC, MTU: 1500, Parent: "0000:af:06.0", Flags: unix.IFF_UP | unix.IFF_MULTICAST, Broadcast: net.HardwareAddr{255, 255, 255, 255, 255, 255}, AltNames: []string{"a", "b"}}
}

func exampleJournal() state.Journal {
	return state.Journal{
		Version: state.Version, Owner: state.Attachment{ContainerID: "c1", IfName: "net1"}, Network: "net-a",
		Device: libsriov.Address{Bus: 0xaf, Device: 6}, PF: &libsriov.Address{Bus: 0xaf}, VFIndex: 3,
		NetNS:  state.Namespace{Path: "/run/netns/c1", Device: 4, Inode: 5},
		Before: vfstate.State{MAC: ownMAC, VLAN: &vfstate.VLAN{}, Rate: &vfstate.Rate{}, SpoofCheck: vfstate.On, Trust: vfstate.Off, LinkState: vfstate.LinkAuto},
		Want:   vfstate.State{MAC: podMAC, VLAN: &vfstate.VLAN{ID: 100}, Trust: vfstate.On},
		Link:   state.LinkOf(exampleLink()),
	}
}

// play does to a situation what the kernel does for a repair.
func play(s situation, r repair) situation {
	have := s.Have
	if r.Admin.MAC != nil {
		have.MAC = r.Admin.MAC
	}
	if r.Admin.VLAN != nil {
		have.VLAN = r.Admin.VLAN
	}
	if r.Admin.Trust != vfstate.Unset {
		have.Trust = r.Admin.Trust
	}
	if r.Admin.SpoofCheck != vfstate.Unset {
		have.SpoofCheck = r.Admin.SpoofCheck
	}
	s.Have = have
	if s.Link == nil {
		return s
	}
	l := *s.Link
	set := func(flag uint32, on *bool) {
		if on != nil {
			if l.Flags &^= flag; *on {
				l.Flags |= flag
			}
		}
	}
	if r.Move {
		s.AtHome, l.Index = true, r.Index
		l.Flags &^= unix.IFF_UP
	}
	if u := r.Update; true {
		if u.Name != "" {
			l.Name = u.Name
		}
		if u.MAC != nil {
			l.MAC = u.MAC
		}
		if u.MTU != 0 {
			l.MTU = u.MTU
		}
		set(unix.IFF_UP, u.Up)
		set(unix.IFF_PROMISC, u.Promisc)
		set(unix.IFF_ALLMULTI, u.AllMulti)
		set(unix.IFF_NOARP, u.NoARP)
		set(unix.IFF_MULTICAST, u.Multicast)
		if u.Dormant != nil {
			l.Dormant = *u.Dormant
		}
		if u.Broadcast != nil {
			l.Broadcast = u.Broadcast
		}
	}
	l.AltNames = slices.DeleteFunc(slices.Clone(l.AltNames), func(n string) bool { return slices.Contains(r.DropAltNames, n) })
	l.AltNames = append(l.AltNames, r.AddAltNames...)
	slices.Sort(l.AltNames)
	s.Link = &l
	return s
}

// From every mix of done and undone steps, one repair leads to the former
// state, after which there is nothing left to do.
func TestRepairLeadsBackFromAnywhere(t *testing.T) {
	t.Parallel()
	steps := []func(s *situation, l *link.Link){
		func(s *situation, _ *link.Link) { s.Have.MAC = podMAC },
		func(s *situation, _ *link.Link) { s.Have.MAC = make(net.HardwareAddr, 6) },
		func(s *situation, _ *link.Link) { s.Have.VLAN = &vfstate.VLAN{ID: 100} },
		func(s *situation, _ *link.Link) { s.Have.Trust = vfstate.On },
		func(_ *situation, l *link.Link) { l.MAC = podMAC },
		func(_ *situation, l *link.Link) { l.Name = "net1" },
		func(_ *situation, l *link.Link) { l.MTU = 1300 },
		func(_ *situation, l *link.Link) { l.Flags ^= unix.IFF_UP },
		func(_ *situation, l *link.Link) { l.Flags |= unix.IFF_PROMISC | unix.IFF_ALLMULTI },
		func(_ *situation, l *link.Link) {
			l.Flags ^= unix.IFF_NOARP | unix.IFF_MULTICAST
			l.Dormant, l.Broadcast = true, podMAC
		},
		func(_ *situation, l *link.Link) { l.AltNames = []string{"b", "net1"} },
		func(s *situation, l *link.Link) { s.AtHome, l.Index = false, 9 },
	}
	j := exampleJournal()
	for _, locked := range []bool{false, true} {
		j.MACLocked = locked
		for mix := range 1 << len(steps) {
			l := exampleLink()
			s := situation{Have: j.Before, AtHome: true, Link: &l}
			for i, step := range steps {
				if mix>>i&1 != 0 {
					step(&s, &l)
				}
			}
			r := planRepair(j, s)
			after := play(s, r)
			if r.VerifyMAC { // the driver took the VF's own choice for the PF's
				after.Have.MAC = after.Link.MAC
			}
			require.Empty(t, cmp.Diff(exampleLink(), *after.Link), "mix %b", mix)
			require.Empty(t, cmp.Diff(j.Before, after.Have), "mix %b", mix)
			require.Equal(t, repair{Index: 7}, planRepair(j, after), "mix %b", mix)
		}
	}
}

func TestRepair(t *testing.T) {
	t.Parallel()
	home := func(change func(*link.Link)) situation {
		l := exampleLink()
		change(&l)
		return situation{Have: exampleJournal().Before, AtHome: true, Link: &l}
	}
	for name, tc := range map[string]struct {
		journal   func(*state.Journal)
		situation situation
		want      repair
	}{
		"interface not in sight":  {situation: situation{Have: exampleJournal().Before}, want: repair{Lost: true}},
		"now with vfio":           {situation: situation{Have: exampleJournal().Before, Userspace: true}},
		"only what ADD wrote":     {situation: func() situation { s := home(func(*link.Link) {}); s.Have.SpoofCheck = vfstate.Off; return s }(), want: repair{Index: 7}},
		"MAC that the pod wrote":  {situation: home(func(l *link.Link) { l.MAC = podMAC }), want: repair{Index: 7, Update: link.Update{MAC: ownMAC}}},
		"old record, no PF there": {journal: func(j *state.Journal) { j.PF = nil }, situation: func() situation { s := home(func(*link.Link) {}); s.Have = vfstate.State{}; return s }(), want: repair{Index: 7}},
		"MAC that the PF had set": {
			journal:   func(j *state.Journal) { j.MACLocked = true },
			situation: func() situation { s := home(func(l *link.Link) { l.MAC = podMAC }); s.Have.MAC = podMAC; return s }(),
			want:      repair{Index: 7, Admin: vfstate.State{MAC: ownMAC}, Update: link.Update{MAC: ownMAC}},
		},
		"MAC of the VF's choice": {
			situation: func() situation { s := home(func(l *link.Link) { l.MAC = podMAC }); s.Have.MAC = podMAC; return s }(),
			want:      repair{Index: 7, Admin: vfstate.State{MAC: make(net.HardwareAddr, 6)}, VerifyMAC: true, Update: link.Update{MAC: ownMAC}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := exampleJournal()
			if tc.journal != nil {
				tc.journal(&j)
			}
			require.Equal(t, tc.want, planRepair(j, tc.situation))
		})
	}
}

// Only where nothing else is left undone may the next ADD go on under another name.
func TestNameTaken(t *testing.T) {
	t.Parallel()
	taken := fmt.Errorf("set name on interface 7: %w", unix.EEXIST)
	for name, tc := range map[string]struct {
		err  error
		want bool
	}{
		"alone":                     {taken, true},
		"as DEL reports it":         {errors.Join(cnierr.New(cnierr.Recover, fmt.Errorf("restore interface x: %w", errors.Join(taken)), "")), true},
		"with what the PF refused":  {errors.Join(cnierr.New(cnierr.Recover, unix.EBUSY, ""), taken), false},
		"with what the pod stacked": {fmt.Errorf("restore interface x: %w", errors.Join(unix.EPERM, taken)), false},
		"another":                   {unix.EBUSY, false},
		"none":                      {nil, false},
	} {
		assert.Equal(t, tc.want, NameTaken(tc.err), name)
	}
}
