// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// many is a node with more PFs than a machine has, as a daemon may report it that is not to
// be trusted, and policies that all select all of them.
func many(pfs, policies int, change func(i int, s *v1.SriovNetworkNodePolicySpec)) Input {
	in := Input{State: &v1.SriovNetworkNodeState{}}
	for i := range pfs {
		pf := v1.InterfaceExt{PciAddress: fmt.Sprintf("%04x:%02x:00.0", i/256, i%256), Name: fmt.Sprintf("ens%d", i), Vendor: "8086", DeviceID: "10c9", TotalVfs: 8}
		in.State.Status.Interfaces = append(in.State.Status.Interfaces, pf)
	}
	for i := range policies {
		p := &v1.SriovNetworkNodePolicy{}
		p.Name = fmt.Sprintf("p%02d", i)
		p.Spec = v1.SriovNetworkNodePolicySpec{ResourceName: "nics", NumVfs: 8, NicSelector: v1.SriovNetworkNicSelector{Vendor: "8086"}}
		change(i, &p.Spec)
		in.Policies = append(in.Policies, p)
	}
	return in
}

var manyKinds = map[string]struct {
	change func(i int, s *v1.SriovNetworkNodePolicySpec)
	says   string // of 1 000 PFs, the policy of the lowest precedence
}{
	"overlap":  {func(int, *v1.SriovNetworkNodePolicySpec) {}, "ens7 (0000:07:00.0): VFs 0-7 overlap with 0-7 of policy p01, which has precedence; and 992 more"},
	"too many": {func(_ int, s *v1.SriovNetworkNodePolicySpec) { s.NumVfs = 9 }, "ens7 (0000:07:00.0): numVfs 9 exceeds the 8 VFs the device has; and 992 more"},
	"modes": {func(i int, s *v1.SriovNetworkNodePolicySpec) { s.EswitchMode = []string{"legacy", "switchdev"}[i%2] },
		"ens7 (0000:07:00.0): eSwitchMode legacy, but policy p01, which has precedence, says switchdev; and 992 more"},
	"topology": {func(i int, s *v1.SriovNetworkNodePolicySpec) {
		s.NumVfs, s.ExcludeTopology = 8, i%2 == 0
		s.NicSelector.PfNames = []string{"ens1#0-3", "ens2"}
		if i > 0 {
			s.NicSelector.PfNames = []string{"ens1#4-7", "ens3"}
		}
	}, "excludeTopology true of resource nics: policy p01, which has precedence, says false"},
	"names": {func(_ int, s *v1.SriovNetworkNodePolicySpec) {
		for i := range 1000 {
			s.NicSelector.PfNames = append(s.NicSelector.PfNames, fmt.Sprintf("none%d#0-3", i))
		}
	}, "nicSelector matches none of the node's PFs: ens0 (0000:00:00.0) 8086:10c9, ens1 (0000:01:00.0) 8086:10c9, ens2 (0000:02:00.0) 8086:10c9, ens3 (0000:03:00.0) 8086:10c9, and 996 more"},
	"addresses": {func(_ int, s *v1.SriovNetworkNodePolicySpec) {
		for i := range 1000 {
			s.NicSelector.RootDevices = append(s.NicSelector.RootDevices, fmt.Sprintf("%04x:%02x:00.1", i/256, i%256))
		}
	}, "and 996 more"},
}

// Messages about thousands of PFs stay short.
func TestMessagesOfManyPFs(t *testing.T) {
	for name, kind := range manyKinds {
		t.Run(name, func(t *testing.T) {
			in := many(1000, 2, kind.change)
			r := Node(in)
			require.Contains(t, r.Verdicts[0].Message, kind.says)
			require.Less(t, len(r.Verdicts[0].Message), 2048)
			in.State.Spec = r.Spec
			require.Equal(t, r, Node(in), "and planned again")
		})
	}
}

// Planning a node is linear in its PFs, whatever policies say.
func BenchmarkManyPFs(b *testing.B) {
	for name, kind := range manyKinds {
		for _, pfs := range []int{1000, 4000} {
			b.Run(fmt.Sprintf("%s/%d", name, pfs), func(b *testing.B) {
				in := many(pfs, 50, kind.change)
				in.State.Spec = Node(in).Spec
				for b.Loop() {
					Node(in)
				}
			})
		}
	}
}
