// SPDX-License-Identifier: Apache-2.0

package node

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

func TestVFsAreCounted(t *testing.T) {
	want := v1.SriovNetworkNodeStateSpec{Interfaces: []v1.Interface{
		{PciAddress: "0000:01:00.0", VfGroups: []v1.VfGroup{{ResourceName: "a", VfRange: "0-2"}, {ResourceName: "b", VfRange: "3-3"}}},
		{PciAddress: "0000:02:00.0", VfGroups: []v1.VfGroup{{ResourceName: "a", VfRange: "0-0"}}},
	}}
	read := func(resource, offered string) float64 {
		return testutil.ToFloat64(vfs.WithLabelValues(resource, offered))
	}

	countVFs(want, plan.Resources{List: []plan.Resource{
		{Name: "a", Selectors: []plan.Selector{{PCIAddresses: []string{"x", "y"}}, {PCIAddresses: []string{"z"}}}},
	}})
	require.Equal(t, []float64{3, 1, 0, 1}, []float64{read("a", "true"), read("a", "false"), read("b", "true"), read("b", "false")})

	countVFs(v1.SriovNetworkNodeStateSpec{}, plan.Resources{})
	require.Zero(t, testutil.CollectAndCount(vfs), "a resource that is not wanted any more is not reported")
}
