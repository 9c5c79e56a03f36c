// SPDX-License-Identifier: Apache-2.0

package kubelet_test

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sriovkit/sriovkit/device-plugin/internal/kubelettest"
	"github.com/stretchr/testify/require"
)

// A kubelet that refuses is asked again after pauses that grow, whatever the plugin does to
// its own socket meanwhile: 50, 100, 200, 400, 800 ms after each other.
func TestRefusalsArePaused(t *testing.T) {
	modes(t, func(t *testing.T, watched bool) {
		root := kubelettest.Root(t, watched)
		k := kubelettest.Start(t, root, kubelettest.Refusing(1000))
		p := run(t, root, nic, "a")
		result := map[bool]string{true: "refused", false: "error"}[watched]
		refused := func() float64 {
			return testutil.ToFloat64(p.metrics.Registrations.WithLabelValues(nic.String(), result))
		}
		began := time.Now()
		eventually(t, func() bool { return refused() >= 5 }, "not asked again")
		require.GreaterOrEqual(t, time.Since(began), 700*time.Millisecond)
		require.LessOrEqual(t, refused(), 6.0)
		// A new kubelet is not kept waiting.
		k.Stop()
		kubelettest.Start(t, root).AwaitCount(nic.String(), 1)
	})
}

// Of two copies on a node the newer one serves, and the older one when that is gone; they do
// not take the socket from each other.
func TestTwoCopiesSettle(t *testing.T) {
	modes(t, func(t *testing.T, watched bool) {
		root := kubelettest.Root(t, watched)
		k := kubelettest.Start(t, root)
		older := run(t, root, nic, "old")
		k.AwaitDevices(nic.String(), "old")
		newer := run(t, root, nic, "new")
		k.AwaitDevices(nic.String(), "new")
		eventually(t, func() bool { return newer.Watched() && !older.Watched() }, "both are watched")
		registered := func() float64 {
			return testutil.ToFloat64(newer.metrics.Registrations.WithLabelValues(nic.String(), "ok"))
		}
		eventually(t, func() bool { return registered() == 1 }, "not registered")
		newer.stop()
		k.AwaitDevices(nic.String(), "old")
		require.Equal(t, 1.0, registered())
	})
}

// An alert on a pool that kubelet never took needs its series before there is anything to
// count.
func TestSeriesAreThereFromTheStart(t *testing.T) {
	p := run(t, kubelettest.Root(t, true), nic, "a")
	families, err := p.metrics.Registry.Gather()
	require.NoError(t, err)
	series := map[string]int{}
	for _, f := range families {
		series[f.GetName()] = len(f.Metric)
	}
	for name, n := range map[string]int{
		"sriovdp_kubelet_watching": 1, "sriovdp_devices": 2, "sriovdp_registrations_total": 3, "sriovdp_allocations_total": 2,
		"sriovdp_config_reloads_total": 2, "sriovdp_rescans_total": 6, "process_resident_memory_bytes": 1,
	} {
		require.Equal(t, n, series[name], name)
	}
}

// A peer that connects and says nothing does not hold up the end, as gRPC would let it for two
// minutes.
func TestSilentPeerDoesNotHoldUpTheEnd(t *testing.T) {
	root := kubelettest.Root(t, true)
	p := run(t, root, nic, "a")
	k := kubelettest.Start(t, root)
	k.AwaitDevices(nic.String(), "a")
	peer, err := net.Dial("unix", filepath.Join(root, "plugins_registry/example.com_nic.sock"))
	require.NoError(t, err)
	defer peer.Close()
	_, err = peer.Read(make([]byte, 1)) // it has been accepted
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		p.stop()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute): // grpc's own limit is two
		require.Fail(t, "still there")
	}
	k.AwaitDevices(nic.String())
}
