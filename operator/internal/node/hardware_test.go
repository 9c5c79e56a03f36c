// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

// Events cause one reconciliation once they have settled, and none if the host was observed
// since.
func TestNodeHardwareEventsSettle(t *testing.T) {
	sriovtest.NeedNode(t)
	host, err := libsriov.Open("/")
	require.NoError(t, err)
	h := hardware{changed: make(chan event.GenericEvent)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- h.watch(ctx) }()
	happen := func() (number uint64) { // an event that says nothing new
		t.Helper()
		require.NoError(t, os.WriteFile("/sys/class/net/lo/uevent", []byte("change"), 0))
		number, err := host.Events()
		require.NoError(t, err)
		return number
	}
	for ; h.received.Load() == 0; time.Sleep(settle / 10) { // those before the subscription are lost
		happen()
	}
	<-h.changed

	h.observed.Store(happen())
	select {
	case <-h.changed:
		t.Error("somebody has looked since")
	case <-time.After(2 * settle):
	}

	happen()
	last := happen()
	<-h.changed
	require.Equal(t, last, h.received.Load(), "both are one piece of work")
	cancel()
	require.NoError(t, <-done)
}
