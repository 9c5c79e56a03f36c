package plugin

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

var (
	ownMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	podMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

func exampleLink() link.Link {
	return link.Link{Index: 7, Name: "ens1v0", MAC: ownMAC, MTU: 1500, Parent: "0000:af:06.0", Flags: unix.IFF_UP, AltNames: []string{"a", "b"}}
}

func exampleJournal() journal {
	return journal{
		Version: journalVersion, Owner: attachment{"c1", "net1"}, Network: "net-a",
		Device: libsriov.Address{Bus: 0xaf, Device: 6}, PF: &libsriov.Address{Bus: 0xaf}, VFIndex: 3,
		NetNS:  namespace{Path: "/run/netns/c1", Device: 4, Inode: 5},
		Before: vfstate.State{MAC: ownMAC, VLAN: &vfstate.VLAN{}, Rate: &vfstate.Rate{}, SpoofCheck: vfstate.On, Trust: vfstate.Off, LinkState: vfstate.LinkAuto},
		Want:   vfstate.State{MAC: podMAC, VLAN: &vfstate.VLAN{ID: 100}, Trust: vfstate.On},
		Link:   linkStateOf(exampleLink()),
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
		journal   func(*journal)
		situation situation
		want      repair
	}{
		"gone for good":           {situation: situation{Gone: true}},
		"interface not in sight":  {situation: situation{Have: exampleJournal().Before}, want: repair{Lost: true}},
		"now with vfio":           {situation: situation{Have: exampleJournal().Before, Userspace: true}},
		"only what ADD wrote":     {situation: func() situation { s := home(func(*link.Link) {}); s.Have.SpoofCheck = vfstate.Off; return s }(), want: repair{Index: 7}},
		"MAC that the pod wrote":  {situation: home(func(l *link.Link) { l.MAC = podMAC }), want: repair{Index: 7, Update: link.Update{MAC: ownMAC}}},
		"old record, no PF there": {journal: func(j *journal) { j.PF = nil }, situation: func() situation { s := home(func(*link.Link) {}); s.Have = vfstate.State{}; return s }(), want: repair{Index: 7}},
		"MAC that the PF had set": {
			journal:   func(j *journal) { j.MACLocked = true },
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

func TestJournalRoundTrip(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "vf", "0000:af:06.0.json")
	want := exampleJournal()
	for range 2 { // new, and replaced
		require.NoError(t, save(path, want))
		var got journal
		require.NoError(t, load(path, &got))
		require.Equal(t, want, got)
		want.MACLocked, want.Link = true, nil
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode())
	require.NoError(t, os.Truncate(path, 30))
	assert.ErrorIs(t, load(path, &journal{}), errDamaged)
	require.NoError(t, remove(path))
	assert.ErrorIs(t, load(path, &journal{}), os.ErrNotExist)
}

// The record has every key that the other plugin's DEL reads, in its types, and
// tells ours the same about the VF as the journal does.
func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	stdin := []byte(`{"cniVersion":"1.0.0","name":"net-a","type":"sriov","deviceID":"0000:af:06.0","vlan":100,"trust":"on","mac":"02:00:00:00:00:02","ipam":{"type":"host-local"},"prevResult":{},"origvfstate":{"HostIFName":"evil"}}`)
	r, err := parseRequest(stdin, "")
	require.NoError(t, err)
	want := exampleJournal()
	b, err := composeRecord(r, want, "ens1f0")
	require.NoError(t, err)

	var keys map[string]any
	require.NoError(t, json.Unmarshal(b, &keys))
	assert.Equal(t, map[string]any{
		"HostIFName": "ens1v0", "EffectiveMAC": "02:00:00:00:00:01", "AdminMAC": "02:00:00:00:00:01", "SpoofChk": true, "Trust": false,
		"Vlan": 0.0, "VlanQoS": 0.0, "VlanProto": 0.0, "MinTxRate": 0.0, "MaxTxRate": 0.0, "LinkState": 0.0, "MTU": 1500.0,
	}, keys["OrigVfState"])
	assert.Equal(t, 100.0, keys["vlan"])
	assert.Equal(t, "ens1f0", keys["Master"])
	assert.Equal(t, 3.0, keys["VFID"])
	assert.NotContains(t, keys, "VLAN")
	assert.NotContains(t, keys, "prevResult")
	assert.NotContains(t, string(b), "evil")

	var back record
	require.NoError(t, json.Unmarshal(b, &back))
	got, err := back.journal(want.Owner, want.NetNS.Path)
	require.NoError(t, err)
	assert.Equal(t, undoing(want).MAC, undoing(got).MAC)
	assert.Equal(t, vfstate.Off, undoing(got).Trust)
	assert.Equal(t, want.Link.Name, got.Link.Name)
	assert.True(t, bytes.Equal(want.Link.MAC, got.Link.MAC))
	assert.NotNil(t, back.Sriovkit)
}

func FuzzRecord(f *testing.F) {
	b, err := os.ReadFile("testdata/upstream-record.json")
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte(`{"deviceID":"0000:af:06.0","OrigVfState":{"LinkState":9,"AdminMAC":"zz"},"link_state":"auto","vlan":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r record
		if json.Unmarshal(b, &r) != nil {
			return
		}
		j, err := r.journal(attachment{"c", "net1"}, "/run/netns/x")
		if err != nil {
			require.Equal(t, journal{}, j)
			return
		}
		_ = planRepair(j, situation{Link: new(exampleLink())})
	})
}

func TestSplitRecordName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]attachment{
		"c0ffee-net1":   {"c0ffee", "net1"},
		"c0ffee-net-1":  {"c0ffee", "net-1"},
		"my-pod-1-net1": {"my-pod-1", "net1"},
		"nodash":        {"", "nodash"},
	} {
		assert.Equal(t, want, splitRecordName(name))
	}
}

// The bytes are those that the RFCs' figures give; the checksum over pseudo
// header and message, itself included, is zero.
func TestAnnouncements(t *testing.T) {
	t.Parallel()
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	assert.Equal(t, []byte{
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x08, 0x06,
		0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 192, 0, 2, 7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 192, 0, 2, 7,
	}, arpAnnouncement(mac, net.ParseIP("192.0.2.7").To4()))

	b := neighbourAdvertisement(mac, net.ParseIP("2001:db8::7"))
	require.Len(t, b, 14+40+32)
	assert.Equal(t, []byte{0x33, 0x33, 0, 0, 0, 1}, b[:6])
	assert.EqualValues(t, 255, b[14+7], "hop limit")
	assert.Equal(t, net.ParseIP("ff02::1"), net.IP(b[14+24:14+40]))
	assert.Equal(t, []byte{136, 0}, b[54:56])
	assert.Equal(t, []byte{2, 1, 2, 0, 0, 0, 0, 9}, b[len(b)-8:])
	pseudo := slices.Concat(b[22:54], []byte{0, 0, 0, 32, 0, 0, 0, 58}, b[54:])
	assert.Zero(t, checksum(pseudo))
}
