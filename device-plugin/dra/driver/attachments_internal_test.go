// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"log/slog"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/stretchr/testify/require"
	resourceapi "k8s.io/api/resource/v1"
)

// A claim may end between the look at its record and the change of its files: those are gone
// then, or another's of its name.
func TestNetworkOfAClaimThatHasEnded(t *testing.T) {
	t.Parallel()
	d := New(Options{Name: "d.example.com", Node: "node", PluginDir: t.TempDir()}, slog.New(slog.DiscardHandler))
	c := record.Claim{
		UID: "2f0a2b1e-5d4c-4a56-9a5e-2f4d1c0b9a87", Namespace: "team", Name: "nic", Prepared: true,
		Requests: []record.Request{{Name: "vf", Devices: []record.Device{{ID: "0000:01:01.0", Name: "0000-01-01-0"}}}},
	}
	networks := map[string]*resourceapi.NetworkDeviceData{"0000-01-01-0": {InterfaceName: "net1"}}
	require.NoError(t, d.updateMetadata(t.Context(), c, networks))
}
