// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Files as kubelets of all versions write them, and whatever else may be in their place.
func TestReadCheckpoint(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text string
		want []string // nil is an error
	}{
		"by NUMA node": {`{"Data":{"PodDeviceEntries":[{"PodUID":"u","ContainerName":"c","ResourceName":"a/b","DeviceIDs":{"-1":["x"],"0":[]},"AllocResp":"CgA="},
			{"PodUID":"v","ContainerName":"c","ResourceName":"a/b","DeviceIDs":{"1":["y"]},"AllocResp":null}],"RegisteredDevices":{"a/b":["x","y","z"]}},"Checksum":1}`, []string{"x", "y"}},
		"a list":                  {`{"Data":{"PodDeviceEntries":[{"PodUID":"u","ContainerName":"c","ResourceName":"a/b","DeviceIDs":["x"],"AllocResp":""}],"RegisteredDevices":null},"Checksum":1}`, []string{"x"}},
		"further keys":            {`{"Version":2,"Data":{"More":{"a":[1]},"RegisteredDevices":{},"PodDeviceEntries":[{"PodUID":"u","ResourceName":"a/b","DeviceIDs":null,"More":[{}]}]}}`, []string{}},
		"no pod":                  {`{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{}},"Checksum":1}`, []string{}},
		"no entries":              {`{"Data":{"RegisteredDevices":{}},"Checksum":1}`, nil},
		"no data":                 {`{"Checksum":1}`, nil},
		"null data":               {`{"Data":null}`, nil},
		"null":                    {`null`, nil},
		"nothing":                 {``, nil},
		"zeros, as after a crash": {"\x00\x00\x00\x00", nil},
		"a list of files":         {`[]`, nil},
		"entries by pod":          {`{"Data":{"PodDeviceEntries":{"u":{}}}}`, nil},
		"entry of another kind":   {`{"Data":{"PodDeviceEntries":["u"]}}`, nil},
		"entry without a pod":     {`{"Data":{"PodDeviceEntries":[{"ResourceName":"a/b","DeviceIDs":["x"]}]}}`, nil},
		"entry without devices":   {`{"Data":{"PodDeviceEntries":[{"PodUID":"u","ResourceName":"a/b"}]}}`, nil},
		"null entry":              {`{"Data":{"PodDeviceEntries":[null]}}`, nil},
		"devices of another kind": {`{"Data":{"PodDeviceEntries":[{"PodUID":"u","ResourceName":"a/b","DeviceIDs":{"0":[{"id":"x"}]}}]}}`, nil},
		"devices as a string":     {`{"Data":{"PodDeviceEntries":[{"PodUID":"u","ResourceName":"a/b","DeviceIDs":"x"}]}}`, nil},
		"cut in an entry":         {`{"Data":{"PodDeviceEntries":[{"PodUID":"u","ResourceName":"a/b","DeviceIDs":["x"]}`, nil},
		"cut between entries":     {`{"Data":{"PodDeviceEntries":[{"PodUID":"u","ResourceName":"a/b","DeviceIDs":["x"]},`, nil},
		"cut after the entries":   {`{"Data":{"PodDeviceEntries":[]`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "checkpoint")
			require.NoError(t, os.WriteFile(path, []byte(tc.text), 0o600))
			got, err := readCheckpoint(path)
			if tc.want == nil {
				require.Error(t, err)
				require.Empty(t, got)
				return
			}
			require.NoError(t, err)
			ids := []string{}
			for _, h := range got {
				require.Equal(t, "a/b", h.Resource.String())
				ids = append(ids, h.Device)
			}
			require.Equal(t, tc.want, ids)
		})
	}
}
