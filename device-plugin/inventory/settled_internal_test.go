// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/internal/testhost"
	"github.com/sriovkit/sriovkit/device-plugin/metrics"
	"github.com/stretchr/testify/require"
)

// Whoever writes a configuration that withdraws a device finds that nobody gives it away
// from a later call on: the call waits for the pools, or fails.
func TestSettledAfterEveryChangeOfTheFile(t *testing.T) {
	t.Parallel()
	root := testhost.New(t)
	file := filepath.Join(t.TempDir(), "config.json")
	write := func(drivers string) {
		t.Helper()
		text := `{"resourceList": [{"resourceName": "nic", "resourcePrefix": "e", "selectors": {"drivers": [` + drivers + `]}}]}`
		require.NoError(t, os.WriteFile(file+".new", []byte(text), 0o644))
		require.NoError(t, os.Rename(file+".new", file))
	}
	write(`"iavf"`)
	inv, err := New(Options{ConfigFile: file, SysfsRoot: root, Captured: true, KubeletDir: t.TempDir(), PodResources: "/no/such/socket", Rescan: 1 << 40},
		metrics.New("test"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	past, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, inv.Settled(past), ErrBehind, "not started")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	hold := make(chan chan struct{}, 1)
	go func() {
		ended <- inv.Run(ctx, func(context.Context, State) bool {
			select {
			case let := <-hold:
				<-let
			default:
			}
			return false
		})
	}()
	t.Cleanup(func() { stop(); require.NoError(t, <-ended) })
	require.NoError(t, inv.Settled(t.Context()))
	has := func() bool {
		undo, err := inv.Give(config.Resource{Prefix: "e", Name: "nic"}, []string{testhost.VF0})
		if err == nil {
			undo()
		}
		return err == nil
	}
	require.True(t, has())
	for i, drivers := range []string{`"vfio-pci"`, `"iavf"`, `"vfio-pci"`} {
		let := make(chan struct{})
		hold <- let
		write(drivers)
		require.ErrorIs(t, inv.Settled(past), ErrBehind)
		close(let)
		require.NoError(t, inv.Settled(t.Context()))
		require.Equal(t, i == 1, has())
	}
	require.NoError(t, os.WriteFile(file, []byte("{"), 0o644))
	require.NoError(t, inv.Settled(t.Context()), "refused: what was in force stays so")
	require.False(t, has())
}
