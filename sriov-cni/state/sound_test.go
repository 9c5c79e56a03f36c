// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A journal that can be decoded, and says what no VF can be brought back to, is damaged.
func TestSenselessJournals(t *testing.T) {
	t.Parallel()
	good := exampleJournal()
	b, err := json.Marshal(good)
	require.NoError(t, err)
	for name, change := range map[string]func(j, link map[string]any){
		"version of the future":  func(j, _ map[string]any) { j["version"] = 2 },
		"another VF's":           func(j, _ map[string]any) { j["device"] = "0000:af:06.1" },
		"nobody's":               func(j, _ map[string]any) { j["owner"] = map[string]any{} },
		"negative VF":            func(j, _ map[string]any) { j["vf"] = -1 },
		"long name":              func(_, l map[string]any) { l["name"] = strings.Repeat("x", 16) },
		"no name":                func(_, l map[string]any) { l["name"] = "" },
		"path for a name":        func(_, l map[string]any) { l["name"] = "../x" },
		"negative MTU":           func(_, l map[string]any) { l["mtu"] = -1 },
		"MTU of no link":         func(_, l map[string]any) { l["mtu"] = 1 << 20 },
		"MAC of InfiniBand":      func(_, l map[string]any) { l["mac"] = strings.Repeat("00:", 19) + "01" },
		"negative index":         func(_, l map[string]any) { l["index"] = -3 },
		"long alternative name":  func(_, l map[string]any) { l["altNames"] = []string{strings.Repeat("x", 128)} },
		"empty alternative name": func(_, l map[string]any) { l["altNames"] = []string{""} },
		"long alias":             func(_, l map[string]any) { l["alias"] = strings.Repeat("x", 256) },
		"VLAN of no network":     func(j, _ map[string]any) { j["before"].(map[string]any)["vlan"] = map[string]any{"id": 4096} },
		"tag of no protocol":     func(j, _ map[string]any) { j["before"].(map[string]any)["vlan"] = map[string]any{"id": 7, "proto": 5} },
		"trust of no meaning":    func(j, _ map[string]any) { j["before"].(map[string]any)["trust"] = 9 },
		"link state of no kind":  func(j, _ map[string]any) { j["want"].(map[string]any)["linkState"] = 77 },
		"index of 33 bits":       func(_, l map[string]any) { l["index"] = 1<<32 + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := Store{Dir: t.TempDir()}
			var j map[string]any
			require.NoError(t, json.Unmarshal(b, &j))
			require.NoError(t, Save(s.JournalPath(good.Device), j))
			got, err := s.Journal(good.Device)
			require.NoError(t, err, "as it was")
			require.Equal(t, good, got)
			change(j, j["link"].(map[string]any))
			require.NoError(t, Save(s.JournalPath(good.Device), j))
			got, err = s.Journal(good.Device)
			require.ErrorIs(t, err, ErrDamaged)
			assert.Equal(t, Journal{}, got)
		})
	}
	for _, text := range []string{"null", "{}", "[]", "7", `"x"`, ""} {
		s := Store{Dir: t.TempDir()}
		require.NoError(t, Write(s.JournalPath(good.Device), []byte(text)))
		_, err := s.Journal(good.Device)
		assert.ErrorIs(t, err, ErrDamaged, text)
	}
}

func TestSenselessRecords(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../plugin/testdata/upstream-record.json")
	require.NoError(t, err)
	for key, values := range map[string][]any{
		"Vlan": {-1, 4096, 99999}, "VlanQoS": {8, -1}, "MTU": {-1, 1 << 20}, "MinTxRate": {-1}, "MaxTxRate": {-5, 1 << 33}, "VlanProto": {5, 0x18100},
		"AdminMAC": {"zz", "00:00:00:00:00:00:00:01"}, "EffectiveMAC": {"02:00:00:00:00"},
		"HostIFName": {strings.Repeat("x", 16), "a/b", "..", "a b"},
	} {
		for _, value := range values {
			s := Store{Dir: t.TempDir()}
			var r map[string]any
			require.NoError(t, json.Unmarshal(text, &r))
			require.NoError(t, Save(s.Dir+"/c0ffee-net1", r))
			got, err := s.Record(s.Dir + "/c0ffee-net1")
			require.NoError(t, err)
			require.Equal(t, "net-a", got.Name)
			before := maps.Clone(r["OrigVfState"].(map[string]any))
			require.Contains(t, before, key)
			before["Vlan"] = 7
			before[key] = value
			r["OrigVfState"] = before
			require.NoError(t, Save(s.Dir+"/c0ffee-net1", r))
			_, err = s.Record(s.Dir + "/c0ffee-net1")
			assert.ErrorIs(t, err, ErrDamaged, "%s %v", key, value)
			all, err := s.Records()
			require.NoError(t, err)
			assert.Empty(t, all)
		}
	}
}

// Whatever a journal's file holds: it is damaged, or it is the VF's and says what the
// kernel takes.
func FuzzJournal(f *testing.F) {
	b, err := json.Marshal(exampleJournal())
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte(`{"version":1,"device":"0000:af:06.0","owner":{"containerID":"c","ifname":"n"},"link":{"name":"x","mac":"zz"}}`))
	a := libsriov.Address{Bus: 0xaf, Device: 6}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := Store{Dir: t.TempDir()}
		require.NoError(t, Write(s.JournalPath(a), b))
		j, err := s.Journal(a)
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			require.Equal(t, Journal{}, j)
			return
		}
		require.Equal(t, a, j.Device)
		if j.Link != nil {
			require.True(t, len(j.Link.Name) < 16 && (len(j.Link.MAC) == 0 || len(j.Link.MAC) == 6))
		}
	})
}
