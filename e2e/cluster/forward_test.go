// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/netns"
	"github.com/sriovkit/sriovkit/e2e/stage"
	"github.com/sriovkit/sriovkit/e2e/vm"
)

// The API server reaches the kubelet and the metrics of a node at its address.
func TestNodeIsReached(t *testing.T) {
	vm.Need(t)
	cache, err := stage.Open(io.Discard)
	require.NoError(t, err)
	disk, err := build(t.Context(), cache, []vm.Config{{}})
	require.NoError(t, err)
	c := &Cluster{log: io.Discard, cache: cache}
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	c.netns, err = netns.New(t.Context())
	require.NoError(t, err)
	n, err := c.boot(t.Context(), 0, vm.Config{}, Layout{}.withDefaults(), disk)
	require.NoError(t, err)
	c.Nodes = append(c.Nodes, n)
	for _, port := range []int{kubeletPort, metricsPort} {
		_, err := n.Output(t.Context(), "sh", "-c", fmt.Sprintf(
			"setsid busybox nc -l -p %d -e echo %[1]d >/dev/null 2>&1 </dev/null & until busybox netstat -lnt | grep -q :%[1]d; do sleep 0.1; done", port))
		require.NoError(t, err)
		conn, err := c.netns.DialContext(t.Context(), "tcp", fmt.Sprintf("%s:%d", n.Address, port))
		require.NoError(t, err)
		said, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(port), strings.TrimSpace(string(said)))
		require.NoError(t, conn.Close())
	}
}
