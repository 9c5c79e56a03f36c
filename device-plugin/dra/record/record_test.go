// SPDX-License-Identifier: Apache-2.0

package record_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
)

const uid types.UID = "2f0a2b1e-5d4c-4a56-9a5e-2f4d1c0b9a87"

// full has a value in every field; a field that is added and not set here fails the test.
func full() record.Claim {
	share := types.UID("5")
	return record.Claim{
		Version: 1, UID: uid, Namespace: "team", Name: "vf", PodClaim: "nic", Pod: record.Pod{UID: "p", Name: "pod"},
		BootID: "b", Prepared: true, PerRequest: true,
		Requests: []record.Request{{
			Name: "a/sub", AdminAccess: true, Network: "team/blue", VhostNet: true,
			Devices: []record.Device{{
				ID: "0000:01:02.0", Name: "0000-01-02-0", Resource: config.Resource{Prefix: "example.com", Name: "nic"},
				ShareID: &share, Driver: "vfio-pci", Bound: "vfio-pci", Before: "iavf",
			}},
		}},
	}
}

func requireFull(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			requireFull(t, v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case reflect.Slice:
		require.NotZero(t, v.Len(), path)
		requireFull(t, v.Index(0), path+"[0]")
	default:
		require.False(t, v.IsZero(), "set %s in the test", path)
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	s := record.Store{Dir: filepath.Join(t.TempDir(), "claims")}
	none, err := s.Load(uid)
	require.NoError(t, err)
	require.Nil(t, none)
	all, err := s.All()
	require.NoError(t, err)
	require.Empty(t, all)

	want := full()
	requireFull(t, reflect.ValueOf(want), "Claim")
	require.NoError(t, s.Save(want))
	got, err := s.Load(uid)
	require.NoError(t, err)
	require.Equal(t, want, *got)
	all, err = s.All()
	require.NoError(t, err)
	require.Equal(t, []record.Claim{want}, all)
	info, err := os.Stat(filepath.Join(s.Dir, string(uid)+".json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())

	require.NoError(t, s.Remove(uid))
	require.NoError(t, s.Remove(uid))
	entries, err := os.ReadDir(s.Dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// A record that cannot be read is never taken for none.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"empty": "", "cut": `{"version":1,"uid":"2f0a`, "another version": `{"version":2,"uid":"` + string(uid) + `"}`,
		"null": "null", "another claim": `{"version":1,"uid":"00000000-0000-0000-0000-000000000000"}`, "list": "[]",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := record.Store{Dir: t.TempDir()}
			path := filepath.Join(s.Dir, string(uid)+".json")
			require.NoError(t, os.WriteFile(path, []byte(data), 0o600))
			other := full()
			other.UID = "11111111-0000-0000-0000-000000000000"
			require.NoError(t, s.Save(other))
			got, err := s.Load(uid)
			require.ErrorIs(t, err, record.ErrUnreadable)
			require.ErrorContains(t, err, "remove "+path)
			require.Nil(t, got)
			all, err := s.All()
			require.ErrorIs(t, err, record.ErrUnreadable)
			require.Equal(t, []record.Claim{other}, all)
		})
	}
}

func TestUIDsAreNoPaths(t *testing.T) {
	t.Parallel()
	s := record.Store{Dir: filepath.Join(t.TempDir(), "claims")}
	for _, bad := range []types.UID{"", "..", "../x", "a/b", "x\x00", "g"} {
		_, err := s.Load(bad)
		require.ErrorContains(t, err, "is not a UID")
		require.Error(t, s.Save(record.Claim{UID: bad}))
		require.Error(t, s.Remove(bad))
	}
	require.NoDirExists(t, s.Dir)
}
