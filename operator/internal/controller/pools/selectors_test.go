// SPDX-License-Identifier: Apache-2.0

package pools

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

func listing(names int) *v1.SriovNetworkPoolConfig {
	p := &v1.SriovNetworkPoolConfig{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "p", Generation: 1}}
	e := metav1.LabelSelectorRequirement{Key: "kubernetes.io/hostname", Operator: metav1.LabelSelectorOpIn}
	for i := range names {
		e.Values = append(e.Values, fmt.Sprintf("node-%05d", i))
	}
	p.Spec.NodeSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{e}}
	return p
}

// What is remembered of a pool is of one generation of one object.
func TestSelectorsAreReadOnceForAGeneration(t *testing.T) {
	t.Parallel()
	var s Selectors
	names := func(node string, pools ...*v1.SriovNetworkPoolConfig) (out []string) {
		var list []v1.SriovNetworkPoolConfig
		for _, p := range pools {
			list = append(list, *p)
		}
		for _, p := range s.Selecting(list, map[string]string{"kubernetes.io/hostname": node}) {
			out = append(out, p.Name)
		}
		return out
	}
	p := listing(2)
	require.Equal(t, []string{"p"}, names("node-00001", p))
	require.Empty(t, names("node-00002", p))
	p.Spec.NodeSelector.MatchExpressions[0].Values = []string{"node-00002"}
	require.Equal(t, []string{"p"}, names("node-00001", p), "the generation is the same: so is the spec")
	p.Generation++
	require.Empty(t, names("node-00001", p))
	require.Equal(t, []string{"p"}, names("node-00002", p))

	again := listing(2) // deleted, and made anew
	again.UID = "q"
	require.Equal(t, []string{"p"}, names("node-00001", again))
	broken := listing(1)
	broken.UID, broken.Spec.NodeSelector.MatchExpressions[0].Operator = "broken", "Like"
	require.Empty(t, names("node-00000", broken))
	require.Empty(t, names("node-00000", broken))
	gone := metav1.Now()
	again.DeletionTimestamp = &gone
	require.Empty(t, names("node-00001", again))

	p.UID, again.UID = "r", "s"
	names("node-00001", p, again, broken)
	require.Len(t, s.read, 3)
	names("node-00001", broken)
	require.Len(t, s.read, 1, "nothing is kept of pools that are gone")
	names("node-00001")
	require.Empty(t, s.read)
}

// A pool that lists the nodes of a cluster by name.
func BenchmarkSelectors(b *testing.B) {
	pools := []v1.SriovNetworkPoolConfig{*listing(5000)}
	var s Selectors
	for b.Loop() {
		s.Selecting(pools, map[string]string{"kubernetes.io/hostname": "node-00042"})
	}
}
