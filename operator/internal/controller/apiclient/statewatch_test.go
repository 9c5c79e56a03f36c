// SPDX-License-Identifier: Apache-2.0

package apiclient

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

const someState = `{
	"apiVersion": "sriovnetwork.openshift.io/v1", "kind": "SriovNetworkNodeState",
	"metadata": {
		"name": "node-1", "namespace": "sriov-network-operator", "resourceVersion": "12", "generation": 3,
		"creationTimestamp": "2026-05-01T12:00:00Z", "annotations": {"sriovnetwork.openshift.io/desired-state": "Idle"},
		"ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "1-2", "controller": true}],
		"managedFields": [{"manager": "m", "operation": "Update", "time": "2026-05-01T12:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}]
	},
	"spec": {"interfaces": [{"pciAddress": "0000:01:00.0", "numVfs": 2, "vfGroups": [{"resourceName": "a", "vfRange": "0-1", "isRdma": true}]}], "system": {"rdmaMode": "shared"}},
	"status": {
		"syncStatus": "Succeeded", "unknown": [{}],
		"conditions": [{"type": "Ready", "status": "True", "reason": "Synced", "message": "\u00fc", "lastTransitionTime": "2026-05-01T12:00:01Z", "observedGeneration": 3}],
		"interfaces": [
			{"pciAddress": "0000:01:00.0", "totalvfs": 7, "altNames": ["p0"], "Vfs": [{"pciAddress": "0000:01:10.0", "vfID": 0, "mtu": 1500}, {"pciAddress": "0000:01:10.2", "vfID": 1}, {"vfID": 2}]},
			{"pciAddress": "0000:02:00.0", "totalvfs": 1, "Vfs": [{"pciAddress": "0000:02:00.0", "vfID": 0}]},
			{"pciAddress": "0000:03:00.0", "Vfs": null}
		]
	}
}`

func decodeAll(stream string) ([]watch.Event, error) {
	d := newStateDecoder(io.NopCloser(strings.NewReader(stream)))
	defer d.Close()
	var out []watch.Event
	for {
		kind, obj, err := d.Decode()
		if errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return out, err
		}
		out = append(out, watch.Event{Type: kind, Object: obj})
	}
}

// TestDecodeStates reads what the standard decoder reads, but for what planning needs not.
func TestDecodeStates(t *testing.T) {
	t.Parallel()
	var state v1.SriovNetworkNodeState
	require.NoError(t, json.Unmarshal([]byte(someState), &state))
	state.ManagedFields = nil
	state.Status.Interfaces[0].VFs = []v1.VirtualFunction{state.Status.Interfaces[0].VFs[0], {}}
	require.False(t, state.Status.Interfaces[0].Virtual())
	require.True(t, state.Status.Interfaces[1].Virtual())
	bookmark := &v1.SriovNetworkNodeState{}
	bookmark.ResourceVersion, bookmark.Annotations = "99", map[string]string{metav1.InitialEventsAnnotationKey: "true"}

	got, err := decodeAll(`{"type":"MODIFIED","object":` + someState + "}\n" +
		`{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"99","annotations":{"k8s.io/initial-events-end":"true"}}}}` + "\n" +
		`{"type":"ERROR","object":{"kind":"Status","status":"Failure","message":"too old","reason":"Expired","code":410}}` + "\n" +
		`{"type":"DELETED","later":1,"object":` + someState + "}")
	require.NoError(t, err)
	want := []watch.Event{
		{Type: watch.Modified, Object: &state}, {Type: watch.Bookmark, Object: bookmark},
		{Type: watch.Error, Object: &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status"}, Status: "Failure", Message: "too old", Reason: "Expired", Code: 410}},
		{Type: watch.Deleted, Object: &state},
	}
	require.Empty(t, cmp.Diff(want, got))
}

func TestDecodeStatesRefuses(t *testing.T) {
	t.Parallel()
	for name, stream := range map[string]string{
		"no object":          `{"type":"ADDED"}`,
		"an object too soon": `{"object":{},"type":"ADDED"}`,
		"not an event":       `[1]`,
		"cut off":            `{"type":"ADDED","object":{"metadata":{"na`,
		"another shape":      `{"type":"ADDED","object":{"spec":[]}}`,
		"an error's object":  `{"type":"ERROR","object":7}`,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decodeAll(stream)
			require.Error(t, err)
			require.Empty(t, got)
		})
	}
}

// FuzzDecodeStates: an event or an error, and an event that is written down and read
// again says the same.
func FuzzDecodeStates(f *testing.F) {
	f.Add([]byte(someState))
	f.Add([]byte(`{"metadata":{"generation":-1},"status":{"interfaces":[{"Vfs":[]}]}}`))
	f.Fuzz(func(t *testing.T, object []byte) {
		once, err := decodeAll(`{"type":"ADDED","object":` + string(object) + "}")
		if err != nil {
			return
		}
		written, err := json.Marshal(once[0].Object)
		require.NoError(t, err)
		twice, err := decodeAll(`{"type":"ADDED","object":` + string(written) + "}")
		require.NoError(t, err)
		again, err := json.Marshal(twice[0].Object)
		require.NoError(t, err)
		require.Equal(t, string(written), string(again))
	})
}

// BenchmarkDecodeState reads the watch event of a node with two PFs of six VFs each.
func BenchmarkDecodeState(b *testing.B) {
	vf := `{"name":"ens0v0","mac":"02:00:00:00:00:02","driver":"igbvf","pciAddress":"0000:01:10.0","vendor":"8086","deviceID":"10ca","mtu":1500,"vfID":0}`
	pf := `{"name":"ens0","pciAddress":"0000:01:00.0","vendor":"8086","deviceID":"10c9","driver":"igb","totalvfs":16,"mtu":1500,"linkType":"ETH","linkAdminState":"up","mac":"02:00:00:00:00:01","linkSpeed":"10000 Mb/s","numVfs":6,"Vfs":[` + strings.Repeat(vf+",", 5) + vf + `]}`
	state := strings.Replace(someState, `"interfaces": [`, `"interfaces": [`+pf+","+pf+",", 2)
	event := `{"type":"MODIFIED","object":` + state + "}\n"
	b.SetBytes(int64(len(event)))
	d := newStateDecoder(io.NopCloser(strings.NewReader(strings.Repeat(event, b.N))))
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, _, err := d.Decode(); err != nil {
			b.Fatal(err)
		}
	}
}
