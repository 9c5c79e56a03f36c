// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
	"github.com/sriovkit/sriovkit/multus-shim/delegate"
)

func entry(ifname string, added bool) Entry {
	e := Entry{
		Attachment: delegate.Attachment{
			Network: "ns/" + ifname, Name: "net-" + ifname, Ifname: ifname, CNIVersion: "1.0.0",
			Plugins:        []json.RawMessage{json.RawMessage(`{"type":"a","big":12345678901234567890,"html":"<&>"}`)},
			CapabilityArgs: map[string]json.RawMessage{"mac": json.RawMessage(`"02:00:00:00:00:01"`)},
			Args:           conf.Args{{"K", "V"}},
		},
		Progress: Progress{Added: added},
	}
	if added {
		e.Result = json.RawMessage(`{"cniVersion":"1.0.0"}`)
	}
	return e
}

func TestSaveLoadRemove(t *testing.T) {
	t.Parallel()
	s := Store{Dir: t.TempDir()}
	r := &Record{Network: "m", ContainerID: "c", Ifname: "eth0", Netns: "/n", Entries: []Entry{entry("eth0", true), entry("net1", false)}}
	require.NoError(t, s.Create(r))
	got, err := s.Load("c")
	require.NoError(t, err)
	assert.Empty(t, cmp.Diff(r, got, cmpopts.IgnoreUnexported(Record{}, Entry{})), "byte for byte")
	assert.Len(t, got.Started(), 2)
	got.Entries = append(got.Entries, entry("net2", false))
	require.NoError(t, s.Create(got))
	got, err = s.Load("c")
	require.NoError(t, err)
	assert.Len(t, got.Started(), 2, "net2 cannot have begun")
	s.Boot = "another"
	got, err = s.Load("c")
	require.NoError(t, err)
	assert.Len(t, got.Started(), 3, "who knows what the last boot did not write")

	info, err := os.Stat(s.Path("c"))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	info, err = os.Stat(filepath.Dir(s.Path("c")))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o700), info.Mode().Perm())

	ids, err := s.Keys()
	require.NoError(t, err)
	assert.Equal(t, []string{"c"}, ids)
	require.NoError(t, s.Remove("c"))
	require.NoError(t, s.Remove("c"), "again")
	_, err = s.Load("c")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestStarted(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		added []bool
		want  int
	}{
		"none added: the first may have begun": {[]bool{false, false}, 1},
		"one added: so may the second":         {[]bool{true, false, false}, 2},
		"all added":                            {[]bool{true, true}, 2},
	} {
		r := Record{}
		for _, added := range tc.added {
			r.Entries = append(r.Entries, Entry{Progress: Progress{Added: added}})
		}
		assert.Len(t, r.Started(), tc.want, name)
	}
}

func TestTruncatedAtEveryLength(t *testing.T) {
	t.Parallel()
	for _, withResults := range []bool{true, false} {
		s := Store{Dir: t.TempDir()}
		r := &Record{Network: "m", ContainerID: "c", Ifname: "eth0", Entries: []Entry{entry("eth0", true), entry("net1", true)}}
		require.NoError(t, s.Create(r))
		if withResults {
			for _, e := range r.Entries {
				require.NoError(t, s.SaveResult("c", "/n", e))
			}
		}
		whole, err := os.ReadFile(s.Path("c"))
		require.NoError(t, err)
		for size := len(whole) - 2; size >= 0; size-- { // without the newline it is whole
			require.NoError(t, os.Truncate(s.Path("c"), int64(size)))
			got, err := s.Find("c", "eth0", nil)
			if !withResults {
				require.ErrorIs(t, err, ErrCorrupt, "%d bytes", size)
				continue
			}
			require.NoError(t, err, "%d bytes", size)
			require.Len(t, got.Entries, 2)
			for i, e := range got.Entries {
				want := r.Entries[i]
				want.Network = want.Name // all that libcni knows
				require.Empty(t, cmp.Diff(want, e, cmpopts.IgnoreUnexported(Entry{})), "%d bytes", size)
			}
		}
	}
}

// An update that the machine did not write before it went down leaves the record as it was
// created: all of it may have run.
func TestUpdateLostWithTheMachine(t *testing.T) {
	t.Parallel()
	s := Store{Dir: t.TempDir(), Boot: "one"}
	r := &Record{Network: "m", ContainerID: "c", Ifname: "eth0", Entries: []Entry{entry("eth0", false), entry("net1", false), entry("net2", false)}}
	require.NoError(t, s.Create(r))
	created := size(t, s)
	r.Entries[0].Progress = Progress{Added: true, Result: json.RawMessage(`{}`)}
	require.NoError(t, s.Update(r, 0))
	got, err := s.Load("c")
	require.NoError(t, err)
	assert.Equal(t, r.Entries, got.Entries)
	assert.Len(t, got.Started(), 2)
	whole := size(t, s)
	for at := whole - 2; at > created; at-- { // without the newline it is whole
		require.NoError(t, os.Truncate(s.Path("c"), at))
		got, err := s.Load("c")
		require.NoError(t, err, "%d bytes of %d", at, whole)
		require.Len(t, got.Started(), 3, "%d bytes: more may have been written", at)
		require.False(t, got.Entries[0].Added)
	}
	require.NoError(t, os.Truncate(s.Path("c"), created))
	got, err = s.Load("c")
	require.NoError(t, err)
	assert.Len(t, got.Started(), 1, "this boot has all that it wrote")
	s.Boot = "two"
	got, err = s.Load("c")
	require.NoError(t, err)
	assert.Len(t, got.Started(), 3)
	require.NoError(t, s.Remove("c"))
	assert.Empty(t, mustNames(t, filepath.Join(s.Dir, "records")))
}

func size(t *testing.T, s Store) int64 {
	t.Helper()
	info, err := os.Stat(s.Path("c"))
	require.NoError(t, err)
	return info.Size()
}

// DEL tells after each network which are left, and in which order it wants them.
func TestReduce(t *testing.T) {
	t.Parallel()
	names := func(r *Record) (names []string) {
		for _, e := range r.Started() {
			names = append(names, e.Ifname)
		}
		return names
	}
	s := Store{Dir: t.TempDir()}
	r := &Record{ContainerID: "c", Ifname: "eth0", Entries: []Entry{entry("eth0", true), entry("net1", true), entry("net2", false)}}
	require.NoError(t, s.Create(r))
	require.NoError(t, s.Reduce(r, []Entry{r.Entries[2], r.Entries[0]}))
	got, err := s.Load("c")
	require.NoError(t, err)
	assert.Equal(t, []string{"net2", "eth0"}, names(got), "net2 has to go, whether or not its ADD came to its end")
	require.NoError(t, s.Reduce(got, got.Entries[1:]))
	got, err = s.Load("c")
	require.NoError(t, err)
	assert.Equal(t, []string{"eth0"}, names(got))
	assert.Equal(t, r.Entries[0].Result, got.Entries[0].Result)

	// Of a record that stands in files of others alone, too.
	s = Store{Dir: t.TempDir()}
	for _, e := range r.Entries {
		require.NoError(t, s.SaveResult("c", "/n", e))
	}
	found, err := s.Find("c", "eth0", nil)
	require.NoError(t, err)
	require.NoError(t, s.Reduce(found, found.Entries[1:]))
	got, err = s.Load("c")
	require.NoError(t, err)
	assert.Equal(t, []string{"net1", "net2"}, names(got))
}

// What was appended and does not fit counts as lost, and everything as started.
func TestUpdatesThatDoNotFit(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		`{"changed":{"3":{"added":true}}}`, `{"changed":{"-1":{"added":true}}}`, `{"changed":{"0":{"unstarted":2}}}`, `{"changed":{"0":{"unstarted":-1}}}`,
		`{"left":[3]}`, `{"left":[-1]}`, `{"left":[1,1]}`, `{"left":[]}`, `{"left":{}}`, `null x`, `[]`, "\x00\x00",
	} {
		s := Store{Dir: t.TempDir()}
		require.NoError(t, s.Create(&Record{ContainerID: "c", Ifname: "eth0", Entries: []Entry{entry("eth0", false), entry("net1", false), entry("net2", false)}}))
		file, err := os.OpenFile(s.Path("c"), os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = file.WriteString(line + "\n" + `{"left":[0]}` + "\n")
		require.NoError(t, err)
		require.NoError(t, file.Close())
		r, err := s.Load("c")
		require.NoError(t, err)
		require.Len(t, r.Started(), 3, line)
	}
}

func TestOtherFormats(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"version":    `{"version":2,"containerID":"c"}`,
		"container":  `{"version":1,"containerID":"d"}`,
		"incomplete": `{"version":1,"containerID":"c","ifname":"eth0","attachments":[{"name":"n"}]}`,
		"nothing":    `{"version":1,"containerID":"c","ifname":"eth0","attachments":[]}`,
		"null":       `{"version":1,"containerID":"c","ifname":"eth0"}`,
	} {
		s := Store{Dir: t.TempDir()}
		require.NoError(t, os.Mkdir(filepath.Join(s.Dir, "records"), 0o700))
		require.NoError(t, os.WriteFile(s.Path("c"), []byte(content), 0o600))
		_, err := s.Find("c", "eth0", nil)
		require.ErrorIs(t, err, ErrCorrupt, name)
		require.ErrorContains(t, err, s.Path("c"), name)
	}
}

func TestScratchFileOfUpstream(t *testing.T) {
	t.Parallel()
	s := Store{Dir: t.TempDir()}
	list := []map[string]any{
		{"Name": "dflt", "Bytes": []byte(`{"name":"dflt","type":"bridge","cniVersion":"0.4.0"}`)},
		{"Name": "neta", "Bytes": []byte(`{"name":"neta","plugins":[{"type":"macvlan","capabilities":{"mac":true}}]}`), "macRequest": "02:00:00:00:00:01"},
		{"Name": "netb", "Bytes": []byte(`{"name":"netb","type":"sriov"}`), "ifnameRequest": "foo", "deviceID": "0000:01:00.1", "ipRequest": []string{"10.0.0.1"}},
	}
	data, err := json.Marshal(list)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(s.Dir, "c"), data, 0o600))

	r, err := s.Find("c", "eth0", conf.Args{{"K", "V"}})
	require.NoError(t, err)
	require.Len(t, r.Entries, 3)
	assert.Equal(t, []string{"eth0", "net1", "foo"}, []string{r.Entries[0].Ifname, r.Entries[1].Ifname, r.Entries[2].Ifname})
	assert.Equal(t, map[string]json.RawMessage{"mac": json.RawMessage(`"02:00:00:00:00:01"`)}, r.Entries[1].CapabilityArgs)
	assert.Equal(t, map[string]json.RawMessage{"deviceID": json.RawMessage(`"0000:01:00.1"`), "ips": json.RawMessage(`["10.0.0.1"]`)}, r.Entries[2].CapabilityArgs)
	assert.Equal(t, conf.Args{{"K", "V"}}, r.Entries[2].Args)

	// libcni's entry knows more about net1.
	e := entry("net1", true)
	e.Name = "neta"
	require.NoError(t, s.SaveResult("c", "/n", e))
	r, err = s.Find("c", "eth0", nil)
	require.NoError(t, err)
	require.Len(t, r.Entries, 3)
	assert.Equal(t, e.Plugins, r.Entries[1].Plugins)
	assert.Equal(t, e.Result, r.Entries[1].Result)

	ids, err := s.Keys()
	require.NoError(t, err)
	assert.Equal(t, []string{"c"}, ids)

	for _, content := range []string{``, `{}`, `[]`, `[{}]`, `[{"Bytes":"eA=="}]`, string(data[:len(data)/2])} {
		s := Store{Dir: t.TempDir()}
		require.NoError(t, os.WriteFile(filepath.Join(s.Dir, "c"), []byte(content), 0o600))
		_, err := s.Find("c", "eth0", nil)
		assert.ErrorIs(t, err, ErrCorrupt, content)
	}
}

func TestNothingKnown(t *testing.T) {
	t.Parallel()
	r, err := Store{Dir: filepath.Join(t.TempDir(), "absent")}.Find("c", "eth0", nil)
	require.NoError(t, err)
	assert.Nil(t, r)
}

func TestLock(t *testing.T) {
	t.Parallel()
	s := Store{Dir: t.TempDir()}
	release, err := s.Lock(t.Context(), "c")
	require.NoError(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Lock(ended, "c")
	require.ErrorIs(t, err, ErrLocked)
	other, err := s.Lock(ended, "d")
	require.NoError(t, err, "another container is free")
	other()
	release()
	again, err := s.Lock(ended, "c")
	require.NoError(t, err)
	again()
	assert.Equal(t, []string{"containers"}, mustNames(t, filepath.Join(s.Dir, "locks")))

	// Holders come and go, and only ever one at a time.
	var all sync.WaitGroup
	held := make(chan struct{}, 1)
	for range 16 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			release, err := s.Lock(ctx, "c")
			if !assert.NoError(t, err) {
				return
			}
			select {
			case held <- struct{}{}:
			default:
				t.Error("two holders")
			}
			<-held
			release()
		})
	}
	all.Wait()
}

func mustNames(t *testing.T, dir string) []string {
	t.Helper()
	names, err := readNames(dir)
	require.NoError(t, err)
	return names
}

func FuzzParse(f *testing.F) {
	data, err := marshal(&Record{Version: Version, ContainerID: "c", Ifname: "eth0", Entries: []Entry{entry("eth0", true)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version":1}`))
	f.Add(append(data, `{"changed":{"0":{"added":true,"unstarted":1}},"left":[0]}`...))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parse(data)
		if err != nil {
			require.Nil(t, r)
			return
		}
		require.NotEmpty(t, r.Entries)
		printed, err := marshal(r)
		require.NoError(t, err)
		again, err := parse(printed)
		require.NoError(t, err)
		reprinted, err := marshal(again)
		require.NoError(t, err)
		require.Equal(t, string(printed), string(reprinted))
	})
}

// Upstream keeps one attachment per container, whatever its interface; we keep more.
func TestAnotherInterfaceThanEth0(t *testing.T) {
	t.Parallel()
	s := Store{Dir: t.TempDir()}
	require.NoError(t, os.WriteFile(filepath.Join(s.Dir, "c"), []byte(`[{"Name":"n","Bytes":"eyJuYW1lIjoibiIsInR5cGUiOiJhIn0="}]`), 0o600))
	r, err := s.Find(Key("c", "foo"), "foo", nil)
	require.NoError(t, err)
	require.Len(t, r.Entries, 1, "upstream's file")
	require.NoError(t, s.Remove(r.Key()))
	require.NoFileExists(t, filepath.Join(s.Dir, "c"))

	require.NoError(t, s.SaveResult("c", "/n", entry("net1", true)))
	r, err = s.Find(Key("c", "foo"), "foo", nil)
	require.NoError(t, err)
	require.Len(t, r.Entries, 1, "and its results")
	require.NoError(t, s.Create(&Record{ContainerID: "c", Ifname: "eth0", Entries: []Entry{entry("net1", true)}}))
	r, err = s.Find(Key("c", "foo"), "foo", nil)
	require.NoError(t, err)
	require.Nil(t, r, "those are of eth0")
	require.NoError(t, s.SaveResult(Key("c", "foo"), "/n", entry("net2", true)))
	indexed, err := s.Index()
	require.NoError(t, err)
	for _, s := range []Store{s, indexed} {
		r, err = s.Find(Key("c", "foo"), "foo", nil)
		require.NoError(t, err)
		require.Len(t, r.Entries, 1)
		require.Equal(t, "net2", r.Entries[0].Ifname)
	}
	keys, err := indexed.Keys()
	require.NoError(t, err)
	require.Equal(t, []string{"c", "c@foo"}, keys)
}
