// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/device-plugin/internal/testhost"
)

// While the kernel makes VFs on a PF, reading how many there are has to wait. A new pool
// is registered all the same, and has its devices at once when that is over.
func TestNewPoolIsRegisteredWhileTheKernelIsBusy(t *testing.T) {
	n := newNode(t, true)
	n.options.Rescan = time.Hour // nothing but the configuration makes it look
	k := n.kubelet()
	n.start()
	n.eventually(func() bool { return n.plugin.Ready() == nil }, "never ready")

	busy := filepath.Join(n.root, "sys/bus/pci/devices", testhost.PF, "sriov_numvfs")
	require.NoError(t, os.Remove(busy))
	require.NoError(t, syscall.Mkfifo(busy, 0o600))
	n.configure(pool("a", `"drivers": ["iavf"]`))
	n.eventually(func() bool { return testutil.ToFloat64(n.metrics.Watching.WithLabelValues(a)) == 1 }, "not registered")
	require.Zero(t, k.Lists(a))

	require.NoError(t, os.WriteFile(busy, []byte("4\n"), 0o600))
	k.AwaitDevices(a, testhost.VF0)
	require.Equal(t, 1, k.Lists(a))
}
