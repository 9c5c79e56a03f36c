// SPDX-License-Identifier: Apache-2.0

package driver_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/internal/testhost"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
)

// A claim's network is told again when the API server was away.
func TestAttachmentIsToldAgain(t *testing.T) {
	t.Parallel()
	n := start(t)
	c := n.claim(vf0)
	require.Empty(t, n.prepare(c))
	var refused atomic.Int32
	n.reactions.Add("update", "resourceclaims", func(clienttesting.Action) (bool, runtime.Object, error) {
		return refused.Add(1) == 1, nil, errors.New("away")
	})
	require.NoError(t, os.MkdirAll(filepath.Join(n.dir, "attachments"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(n.dir, "attachments/p1.json"),
		[]byte(`{"version": 1, "podUID": "p1", "attachments": [{"deviceID": "`+testhost.VF0+`", "interface": "net1"}]}`), 0o644))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.WatchAttachments(ctx) }()
	require.EventuallyWithT(t, func(c *assert.CollectT) { require.NotEmpty(c, n.told(c)) }, patience, tick)
	cancel()
	require.NoError(t, <-ended)
}

// Where the directory of attachments is removed and made anew, as when its owner is installed
// again, the new one is watched.
func TestAttachmentsDirectoryIsMadeAnew(t *testing.T) {
	t.Parallel()
	n := start(t)
	require.Empty(t, n.prepare(n.claim(vf0)))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	detached := make(chan struct{}, 1)
	n.OnDetach(func() {
		select {
		case detached <- struct{}{}:
		default: // one is enough
		}
	})
	go func() { ended <- n.WatchAttachments(ctx) }()
	dir := filepath.Join(n.dir, "attachments")
	for heard := false; !heard; time.Sleep(tick) {
		require.NoError(t, os.MkdirAll(dir, 0o755))
		path := filepath.Join(dir, "p1.json")
		require.NoError(t, os.WriteFile(path, []byte(`{"version": 1, "podUID": "p1", "attachments": [{"deviceID": "`+testhost.VF0+`", "interface": "net1"}]}`), 0o644))
		require.NoError(t, os.Remove(path))
		select {
		case <-detached:
			heard = true
		default:
		}
	}
	require.NoError(t, os.RemoveAll(dir))
	require.Eventually(t, func() bool { _, err := os.Stat(dir); return err == nil }, patience, tick, "not made anew")
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".p1"), []byte(`{"version": 1, "podUID": "p1", "attachments": [{"deviceID": "`+testhost.VF0+`", "interface": "net2"}]}`), 0o644))
	require.NoError(t, os.Rename(filepath.Join(dir, ".p1"), filepath.Join(dir, "p1.json")))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		got := n.told(c)
		require.NotEmpty(c, got)
		require.Equal(c, "net2", got[0].NetworkData.InterfaceName)
	}, patience, tick)
	cancel()
	require.NoError(t, <-ended)
}
