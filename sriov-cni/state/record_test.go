// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/sriovkit/sriovkit/sriov-cni/request"
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

func exampleJournal() Journal {
	return Journal{
		Version: Version, Owner: Attachment{"c1", "net1"}, Network: "net-a",
		Device: libsriov.Address{Bus: 0xaf, Device: 6}, PF: &libsriov.Address{Bus: 0xaf}, VFIndex: 3,
		NetNS:  Namespace{Path: "/run/netns/c1", Device: 4, Inode: 5},
		Before: vfstate.State{MAC: ownMAC, VLAN: &vfstate.VLAN{}, Rate: &vfstate.Rate{}, SpoofCheck: vfstate.On, Trust: vfstate.Off, LinkState: vfstate.LinkAuto},
		Want:   vfstate.State{MAC: podMAC, VLAN: &vfstate.VLAN{ID: 100}, Trust: vfstate.On},
		Link:   LinkOf(exampleLink()),
	}
}

func TestJournalRoundTrip(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "vf", "0000:af:06.0.json")
	want, s := exampleJournal(), Open("")
	for range 2 { // new, and replaced
		require.NoError(t, Save(path, want))
		for range 2 { // decoded, and remembered
			got, err := load[Journal](s, path)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		want.MACLocked, want.Link = true, nil
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode())
	require.NoError(t, os.Truncate(path, 30))
	_, err = load[Journal](s, path)
	assert.ErrorIs(t, err, ErrDamaged)
	require.NoError(t, Remove(path))
	_, err = load[Journal](s, path)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// The record has every key that the other plugin's DEL reads, in its types, and
// tells ours the same about the VF as the journal does.
func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	stdin := []byte(`{"cniVersion":"1.0.0","name":"net-a","type":"sriov","deviceID":"0000:af:06.0","vlan":100,"trust":"on","mac":"02:00:00:00:00:02","ipam":{"type":"host-local"},"prevResult":{},"origvfstate":{"HostIFName":"evil"}}`)
	r, err := request.Parse(stdin, "")
	require.NoError(t, err)
	want := exampleJournal()
	b, err := ComposeRecord(r, want, "ens1f0")
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

	var back Record
	require.NoError(t, json.Unmarshal(b, &back))
	got, err := back.Journal(want.Owner, want.NetNS.Path)
	require.NoError(t, err)
	assert.Equal(t, want.Before.MAC, got.Before.MAC)
	assert.Equal(t, vfstate.Off, got.Before.Trust)
	assert.Equal(t, want.Link.Name, got.Link.Name)
	assert.True(t, bytes.Equal(want.Link.MAC, got.Link.MAC))
	assert.NotNil(t, back.Sriovkit)
}

func FuzzRecord(f *testing.F) {
	b, err := os.ReadFile("../plugin/testdata/upstream-record.json")
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte(`{"deviceID":"0000:af:06.0","OrigVfState":{"LinkState":9,"AdminMAC":"zz"},"link_state":"auto","vlan":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Record
		if json.Unmarshal(b, &r) != nil {
			return
		}
		j, err := r.Journal(Attachment{"c", "net1"}, "/run/netns/x")
		if err != nil {
			require.Equal(t, Journal{}, j)
			return
		}
	})
}

func TestSplitRecordName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Attachment{
		"c0ffee-net1":   {"c0ffee", "net1"},
		"c0ffee-net-1":  {"c0ffee", "net-1"},
		"my-pod-1-net1": {"my-pod-1", "net1"},
		"nodash":        {"", "nodash"},
	} {
		assert.Equal(t, want, splitRecordName(name))
	}
}

// A record of the other plugin tells no boot. The time of its file does.
func TestRecordOfFormerBoot(t *testing.T) {
	t.Parallel()
	s := Store{Dir: t.TempDir()}
	for name, tc := range map[string]struct {
		text    string
		written time.Time
		former  bool
	}{
		"theirs":      {`{"deviceID":"0000:af:06.0"}`, time.Now(), false},
		"theirs, old": {`{"deviceID":"0000:af:06.0"}`, time.Unix(1e9, 0), true},
		"ours, old":   {`{"deviceID":"0000:af:06.0","sriovkit":{"version":1}}`, time.Unix(1e9, 0), false},
	} {
		path := filepath.Join(s.Dir, "c1-net1")
		require.NoError(t, os.WriteFile(path, []byte(tc.text), 0o600))
		require.NoError(t, os.Chtimes(path, time.Time{}, tc.written))
		r, err := s.Record(path)
		require.NoError(t, err)
		j, err := r.Journal(Attachment{}, "")
		require.NoError(t, err)
		assert.Equal(t, tc.former, j.FormerBoot, name)
	}
}
