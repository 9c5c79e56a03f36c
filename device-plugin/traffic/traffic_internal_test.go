// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func TestLabelsThatAreNoText(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"eth0", "", "p\xff0", "ens1f0np\xc3"} {
		require.NotPanics(t, func() { series(podDevice, 1, name, "", "", "", "") }, "%q", name)
	}
	require.Panics(t, func() { prometheus.MustNewConstMetric(podDevice, prometheus.CounterValue, 1, "\xff", "", "", "", "") }, "or series is for nothing")
}
