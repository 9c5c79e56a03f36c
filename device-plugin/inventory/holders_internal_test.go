// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/stretchr/testify/require"
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
