// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

func policy(name string, mods ...func(*v1.SriovNetworkNodePolicySpec)) *v1.SriovNetworkNodePolicy {
	p := &v1.SriovNetworkNodePolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: v1.SriovNetworkNodePolicySpec{
		ResourceName: "nics", NumVfs: 4, NicSelector: v1.SriovNetworkNicSelector{PfNames: []string{"ens1"}},
	}}
	for _, m := range mods {
		m(&p.Spec)
	}
	return p
}

func reporting(name string) node {
	return node{name: name, labels: map[string]string{"kubernetes.io/hostname": name}, state: &v1.SriovNetworkNodeState{
		Status: v1.SriovNetworkNodeStateStatus{SyncStatus: v1.SyncSucceeded, Interfaces: []v1.InterfaceExt{
			{Name: "ens1", PciAddress: "0000:01:00.0", Vendor: "8086", DeviceID: "10c9", TotalVfs: 7},
		}},
	}}
}

func TestPolicyWarnings(t *testing.T) {
	two := []node{reporting("a"), reporting("b")}
	pfs := func(names ...string) func(*v1.SriovNetworkNodePolicySpec) {
		return func(s *v1.SriovNetworkNodePolicySpec) { s.NicSelector.PfNames = names }
	}
	priority := func(n int) func(*v1.SriovNetworkNodePolicySpec) {
		return func(s *v1.SriovNetworkNodePolicySpec) { s.Priority = new(n) }
	}
	for name, tc := range map[string]struct {
		view view
		p    *v1.SriovNetworkNodePolicy
		want []string
	}{
		"fits":                     {view{configured: true, nodes: two}, policy("p"), nil},
		"not read":                 {view{configured: true, nodes: two}, policy("default"), []string{"a policy named default is not read: give it another name"}},
		"before the configuration": {view{namespace: "ns"}, policy("p"), []string{"there is no SriovOperatorConfig ns/default yet: no node takes part"}},
		"before the nodes":         {view{configured: true}, policy("p"), []string{"nodeSelector matches no node that takes part"}},
		"before the first report":  {view{configured: true, nodes: []node{{name: "a"}}}, policy("p"), nil},
		"no such PF": {view{configured: true, nodes: two}, policy("p", pfs("ens9")),
			[]string{"node a and 1 more: nicSelector matches none of the node's PFs: ens1 (0000:01:00.0) 8086:10c9"}},
		"on one node at least": {view{configured: true, nodes: []node{reporting("a"), {name: "b", state: &v1.SriovNetworkNodeState{}}}}, policy("p"), nil},
		"too many": {view{configured: true, nodes: two[:1]}, policy("p", func(s *v1.SriovNetworkNodePolicySpec) { s.NumVfs = 70 }),
			[]string{"node a: ens1 (0000:01:00.0): numVfs 70 exceeds the 7 VFs the device has"}},
		"loses": {view{configured: true, nodes: two[:1], policies: []*v1.SriovNetworkNodePolicy{policy("first", priority(10))}}, policy("p"),
			[]string{"node a: ens1 (0000:01:00.0): VFs 0-3 overlap with 0-3 of policy first, which has precedence"}},
		"wins": {view{configured: true, nodes: two[:1], policies: []*v1.SriovNetworkNodePolicy{policy("first", priority(10))}}, policy("p", priority(5)),
			[]string{"node a: policy first: ens1 (0000:01:00.0): VFs 0-3 overlap with 0-3 of policy p, which has precedence"}},
		"lost before": {view{configured: true, nodes: two[:1], policies: []*v1.SriovNetworkNodePolicy{policy("first"), policy("second")}},
			policy("p", pfs("ens1#4-5"), func(s *v1.SriovNetworkNodePolicySpec) { s.NumVfs = 6 }), nil},
		"changed, same name": {view{configured: true, nodes: two[:1], policies: []*v1.SriovNetworkNodePolicy{policy("p")}}, policy("p", priority(5)), nil},
		"excludeTopology": {view{configured: true, nodes: two[:1], policies: []*v1.SriovNetworkNodePolicy{policy("z", pfs("ens1#0-1"))}},
			policy("p", pfs("ens1#2-3"), func(s *v1.SriovNetworkNodePolicySpec) { s.ExcludeTopology = true }),
			[]string{"node a: excludeTopology true of resource nics: policy z, which has precedence, says false"}},
	} {
		t.Run(name, func(t *testing.T) {
			var w warnings
			tc.view.policy(tc.p, &w)
			require.Equal(t, tc.want, w.list())
		})
	}
}

func TestWarningsAreFew(t *testing.T) {
	var w warnings
	for i := range 20 {
		w.add("warning %d", i)
		w.add("warning %d", i)
	}
	got := w.list()
	require.Len(t, got, warningLimit+1)
	require.Equal(t, fmt.Sprintf("and %d more", 20-warningLimit), got[warningLimit])
}
