// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
)

// Where kubelet's directory is a long one, the socket's name is shorter, so that its path fits.
func TestSocketFits(t *testing.T) {
	t.Parallel()
	const a, b types.UID = "2f0a2b1e-5d4c-4a56-9a5e-2f4d1c0b9a87", "2f0a2b1e-5d4c-4a56-9a5e-2f4d1c0b9a88"
	for kubelet, whole := range map[string]bool{"/var/lib/kubelet": true, "/var/lib/kubelet2": false, "/var/snap/microk8s/common/var/lib/kubelet": false} {
		dir := filepath.Join(kubelet, "plugins/sriovnetwork.k8snetworkplumbingwg.io")
		require.Equal(t, whole, instance(a, dir) == a, kubelet)
		require.LessOrEqual(t, len(filepath.Join(dir, "dra-"+string(instance(a, dir))+".sock")), maxSocket)
		require.NotEqual(t, instance(a, dir), instance(b, dir))
	}
	require.Empty(t, instance("", "/x"))
}
