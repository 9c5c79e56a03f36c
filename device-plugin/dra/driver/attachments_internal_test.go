// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/dra/offer"
	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/stretchr/testify/require"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
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

// One value that the API refuses is not to keep the others out of a claim's status for good.
func TestNetworkDataIsTaken(t *testing.T) {
	t.Parallel()
	got := networkData(attachment{
		Interface: "net1", MAC: strings.Repeat("00:", 50),
		IPs: []string{"::ffff:192.0.2.1/120", "192.0.2.1", "192.0.2.1/24", "192.0.2.1/24", "2001:DB8:0::1/64", "192.0.2.01/24"},
	})
	require.Equal(t, &resourceapi.NetworkDeviceData{InterfaceName: "net1", IPs: []string{"192.0.2.1/24", "2001:db8::1/64"}}, got)
	for _, ip := range got.IPs {
		require.Empty(t, validation.IsValidInterfaceAddress(nil, ip))
	}
}

// What cannot be published is said once, however often the host is looked at.
func TestProblemsAreSaidOnce(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	d := New(Options{Name: "d.example.com", Node: "node", PluginDir: t.TempDir()}, slog.New(slog.NewTextHandler(&out, nil)))
	d.helper, d.byID = &kubeletplugin.Helper{}, map[string]place{}
	long := offer.Pool{Pool: config.Pool{Resource: config.Resource{Prefix: "example.com", Name: strings.Repeat("x", 60)}}, Members: []pool.Member{{Device: pool.Device{ID: "0000:01:01.0"}}}}
	look := func(pools ...offer.Pool) int {
		d.pools = pools
		d.publish()
		return strings.Count(out.String(), "\n")
	}
	require.Equal(t, 1, look(long))
	require.Equal(t, 1, look(long))
	require.Equal(t, 1, look())
	require.Equal(t, 2, look(long))
}
