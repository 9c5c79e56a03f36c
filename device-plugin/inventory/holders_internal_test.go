// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
)

// What pods hold of other plugins' hardware is nothing that anybody here looks at the host for.
func TestOtherHardwareIsNotHeard(t *testing.T) {
	t.Parallel()
	var h holders
	for id, heard := range map[string]bool{
		"0000:01:02.1": true, "10000:e1:00.0": true, "mlx5_core.sf.4": true, "GPU-5a1b": false, "gpu.0": false, "/dev/fuse": false, "": false,
	} {
		held := h.holders([]kubelet.Holder{{Device: id, Claim: "a/b"}}, map[string]pool.Holder{})
		require.Equal(t, heard, len(held) == 1, id)
	}
}

// Kubelet lists devices that a claim only looks at like the others. Beside the driver they are
// to be given to pods as before.
func TestLookedAtIsNotHeld(t *testing.T) {
	t.Parallel()
	const used, seen, driver = "0000:01:02.1", "0000:01:02.2", "sriov.example.com"
	h := holders{records: records{Store: record.Store{Dir: filepath.Join(t.TempDir(), driver, "claims")}}}
	require.NoError(t, h.records.Save(record.Claim{UID: "1", Namespace: "team", Name: "monitor", Requests: []record.Request{
		{Name: "used", Devices: []record.Device{{ID: used}}},
		{Name: "seen", AdminAccess: true, Devices: []record.Device{{ID: seen}}},
	}}))
	claims, err := h.records.holders()
	require.NoError(t, err)
	listed := func(driver, claim string) map[string]pool.Holder {
		return h.holders([]kubelet.Holder{{Driver: driver, Claim: claim, Device: used}, {Driver: driver, Claim: claim, Device: seen}}, claims)
	}
	require.Equal(t, map[string]pool.Holder{used: {Claim: "team/monitor"}}, listed(driver, "team/monitor"))
	require.Len(t, listed(driver, "team/other"), 2)
	require.Len(t, listed("gpu.example.com", "team/monitor"), 2, "another driver's")
}

// A claim that a driver recorded which is no more keeps its device; who could end it is told
// once, and again if the driver went once more.
func TestRecordOfARemovedDriver(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	r := records{Store: record.Store{Dir: filepath.Join(root, "plugins/sriov.example.com/claims")}, registry: filepath.Join(root, "plugins_registry")}
	require.NoError(t, os.Mkdir(r.registry, 0o700))
	for uid, name := range map[types.UID]string{"1": "left", "2": "listed"} {
		require.NoError(t, r.Save(record.Claim{UID: uid, Namespace: "team", Name: name, Requests: []record.Request{
			{Name: "r", Devices: []record.Device{{ID: "0000:01:02." + string(uid)}}},
		}}))
	}
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, nil))
	look := func() (lines int) {
		t.Helper()
		held, err := r.holders()
		require.NoError(t, err)
		require.Equal(t, map[string]pool.Holder{"0000:01:02.1": {Claim: "team/left"}, "0000:01:02.2": {Claim: "team/listed"}}, held)
		r.report([]kubelet.Holder{{Claim: "team/listed"}}, log)
		return strings.Count(out.String(), "\n")
	}
	require.Equal(t, 1, look())
	require.Equal(t, 1, look())
	require.Contains(t, out.String(), "claim=team/left")
	require.Contains(t, out.String(), "remove "+filepath.Join(r.Dir, "1.json"))
	socket := filepath.Join(r.registry, "sriov.example.com-1234-reg.sock")
	require.NoError(t, os.WriteFile(socket, nil, 0o600))
	require.Equal(t, 1, look())
	require.NoError(t, os.Remove(socket))
	require.Equal(t, 2, look())
}
