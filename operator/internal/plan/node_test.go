// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

const pf0, pf1 = "0000:01:00.0", "0000:02:00.0"

// pol builds a policy for all nodes; mods change its spec.
func pol(name, resource string, numVfs int, sel []string, mods ...func(*v1.SriovNetworkNodePolicySpec)) *v1.SriovNetworkNodePolicy {
	p := &v1.SriovNetworkNodePolicy{Spec: v1.SriovNetworkNodePolicySpec{ResourceName: resource, NumVfs: numVfs}}
	p.Name, p.Spec.NicSelector.PfNames = name, sel
	for _, m := range mods {
		m(&p.Spec)
	}
	return p
}

type specMod = func(*v1.SriovNetworkNodePolicySpec)

func prio(n int) specMod {
	return func(s *v1.SriovNetworkNodePolicySpec) { s.Priority = &n }
}

func vfio(s *v1.SriovNetworkNodePolicySpec)     { s.DeviceType = v1.DeviceTypeVFIO }
func rdma(s *v1.SriovNetworkNodePolicySpec)     { s.IsRdma = true }
func external(s *v1.SriovNetworkNodePolicySpec) { s.ExternallyManaged = true }
func byVendor(s *v1.SriovNetworkNodePolicySpec) {
	s.NicSelector = v1.SriovNetworkNicSelector{Vendor: "8086", DeviceID: "10C9"}
}
func byRoot(addr string) specMod {
	return func(s *v1.SriovNetworkNodePolicySpec) {
		s.NicSelector = v1.SriovNetworkNicSelector{RootDevices: []string{addr}}
	}
}
func mtu(n int) specMod { return func(s *v1.SriovNetworkNodePolicySpec) { s.Mtu = n } }

// node reports two igb PFs with 7 VFs each, and one NIC without SR-IOV.
func node() *v1.SriovNetworkNodeState {
	s := &v1.SriovNetworkNodeState{}
	s.Status.Interfaces = []v1.InterfaceExt{
		{Name: "ens1", AltNames: []string{"sriov1"}, PciAddress: pf0, Vendor: "8086", DeviceID: "10c9", TotalVfs: 7, Mtu: 1500, LinkType: "ETH", PermanentMac: "52:54:00:00:00:01"},
		{Name: "ens2", PciAddress: pf1, Vendor: "8086", DeviceID: "10c9", TotalVfs: 7, Mtu: 1500, LinkType: "ETH", PermanentMac: "52:54:00:00:00:02"},
		{Name: "mgmt", PciAddress: "0000:00:03.0", Vendor: "8086", DeviceID: "10d3", LinkType: "ETH", Mtu: 1500},
	}
	return s
}

// brief writes a spec as "pf numVfs mtu: range resource driver policy, ..." lines.
func brief(spec v1.SriovNetworkNodeStateSpec) []string {
	var out []string
	for _, i := range spec.Interfaces {
		line := fmt.Sprintf("%s %d:", i.Name, i.NumVfs)
		for _, g := range i.VfGroups {
			line += fmt.Sprintf(" %s=%s/%s", g.VfRange, g.ResourceName, g.PolicyName)
		}
		out = append(out, line)
	}
	return out
}

func reasons(r Result) map[string]string {
	out := map[string]string{}
	for _, v := range r.Verdicts {
		out[v.Policy] = v.Reason
	}
	return out
}

func TestPartitions(t *testing.T) {
	ens1 := []string{"ens1"}
	for name, tc := range map[string]struct {
		policies []*v1.SriovNetworkNodePolicy
		want     []string
		reasons  map[string]string
	}{
		"disjoint ranges, two resources": {
			policies: []*v1.SriovNetworkNodePolicy{pol("a", "r1", 6, []string{"ens1#0-2"}), pol("b", "r2", 6, []string{"ens1#3-5"})},
			want:     []string{"ens1 6: 0-2=r1/a 3-5=r2/b"},
			reasons:  map[string]string{"a": v1.ReasonApplied, "b": v1.ReasonApplied},
		},
		"disjoint ranges, one resource": {
			policies: []*v1.SriovNetworkNodePolicy{pol("a", "r1", 6, []string{"ens1#0-2"}), pol("b", "r1", 6, []string{"ens1#3-5"})},
			want:     []string{"ens1 6: 0-2=r1/a 3-5=r1/b"},
		},
		"ranges by alternative name": {
			policies: []*v1.SriovNetworkNodePolicy{pol("a", "r1", 6, []string{"sriov1#0-2"}), pol("b", "r2", 6, []string{"sriov1#3-5"})},
			want:     []string{"ens1 6: 0-2=r1/a 3-5=r2/b"},
		},
		"lower priority keeps what is free": {
			policies: []*v1.SriovNetworkNodePolicy{
				pol("a", "r1", 6, []string{"ens1#4-5"}, prio(90)), pol("b", "r2", 4, []string{"ens1#0-3"}, prio(10)),
			},
			want: []string{"ens1 6: 0-3=r2/b 4-5=r1/a"},
		},
		"overlapping group gives way whole": {
			policies: []*v1.SriovNetworkNodePolicy{
				pol("a", "r1", 6, []string{"ens1#0-5"}, prio(90)), pol("b", "r2", 4, []string{"ens1#0-3"}, prio(10)),
			},
			want:    []string{"ens1 4: 0-3=r2/b"},
			reasons: map[string]string{"a": v1.ReasonOverridden, "b": v1.ReasonApplied},
		},
		"whole PF twice at one priority: no VF without an owner": {
			policies: []*v1.SriovNetworkNodePolicy{pol("a", "r1", 6, ens1), pol("b", "r2", 4, ens1)},
			want:     []string{"ens1 4: 0-3=r2/b"},
		},
		"whole PF: priority 10 beats 99": {
			policies: []*v1.SriovNetworkNodePolicy{pol("z", "r1", 4, ens1, prio(99)), pol("a", "r2", 4, ens1, prio(10))},
			want:     []string{"ens1 4: 0-3=r2/a"},
		},
		"absent priority is the lowest": {
			policies: []*v1.SriovNetworkNodePolicy{pol("z", "r1", 4, ens1), pol("a", "r2", 4, ens1, prio(98))},
			want:     []string{"ens1 4: 0-3=r2/a"},
		},
		"two ranges in one policy": {
			policies: []*v1.SriovNetworkNodePolicy{pol("a", "r1", 6, []string{"ens1#0-1", "ens1#4-5"})},
			want:     []string{"ens1 6: 0-1=r1/a 4-5=r1/a"},
		},
		"name and alternative name of one PF join": {
			policies: []*v1.SriovNetworkNodePolicy{pol("a", "r1", 6, []string{"ens1#0-2", "sriov1#2-4"})},
			want:     []string{"ens1 6: 0-4=r1/a"},
		},
		"range leaves the other VFs alone": {
			policies: []*v1.SriovNetworkNodePolicy{pol("a", "r1", 5, []string{"ens1#2-4"})},
			want:     []string{"ens1 5: 2-4=r1/a"},
		},
		"vendor and device select both PFs, in any case": {
			policies: []*v1.SriovNetworkNodePolicy{pol("a", "r1", 2, nil, byVendor)},
			want:     []string{"ens1 2: 0-1=r1/a", "ens2 2: 0-1=r1/a"},
		},
		"root device selects one": {
			policies: []*v1.SriovNetworkNodePolicy{pol("a", "r1", 2, nil, byRoot(pf1))},
			want:     []string{"ens2 2: 0-1=r1/a"},
		},
		"empty selector exposes nothing": {
			policies: []*v1.SriovNetworkNodePolicy{pol("a", "r1", 2, nil)},
			reasons:  map[string]string{"a": v1.ReasonNoMatch},
		},
		"unknown PF": {
			policies: []*v1.SriovNetworkNodePolicy{pol("a", "r1", 2, []string{"ens9"})},
			reasons:  map[string]string{"a": v1.ReasonNoMatch},
		},
		"more VFs than the device has": {
			policies: []*v1.SriovNetworkNodePolicy{pol("a", "r1", 70, ens1), pol("b", "r2", 2, []string{"ens2"})},
			want:     []string{"ens2 2: 0-1=r2/b"},
			reasons:  map[string]string{"a": v1.ReasonInvalid, "b": v1.ReasonApplied},
		},
		"a NIC without SR-IOV is skipped by kind, refused by name": {
			policies: []*v1.SriovNetworkNodePolicy{
				pol("a", "r1", 1, nil, func(s *v1.SriovNetworkNodePolicySpec) { s.NicSelector.Vendor = "8086" }),
				pol("b", "r2", 1, []string{"mgmt"}),
			},
			want:    []string{"ens1 1: 0-0=r1/a", "ens2 1: 0-0=r1/a"},
			reasons: map[string]string{"a": v1.ReasonApplied, "b": v1.ReasonInvalid},
		},
		"externally managed without VFs": {
			policies: []*v1.SriovNetworkNodePolicy{pol("a", "r1", 2, ens1, external)},
			reasons:  map[string]string{"a": v1.ReasonInvalid},
		},
		"upstream's internal policy default": {policies: []*v1.SriovNetworkNodePolicy{pol("default", "r1", 2, ens1)}, reasons: map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Node(Input{Policies: tc.policies, State: node()})
			require.Empty(t, cmp.Diff(tc.want, brief(got.Spec)))
			if tc.reasons != nil {
				require.Equal(t, tc.reasons, reasons(got))
			}
		})
	}
}

func TestFaultyPolicyHarmsNobodyElse(t *testing.T) {
	good := pol("good", "r2", 3, []string{"ens1#1-2"})
	for name, bad := range map[string]*v1.SriovNetworkNodePolicy{
		"one number":       pol("bad", "r1", 4, []string{"ens1#5"}),
		"downwards":        pol("bad", "r1", 4, []string{"ens1#3-1"}),
		"letters":          pol("bad", "r1", 4, []string{"ens1#a-b"}),
		"beyond numVfs":    pol("bad", "r1", 4, []string{"ens1#0-9"}),
		"two ranges glued": pol("bad", "r1", 4, []string{"ens1#0-1#2-3"}),
		"no name":          pol("bad", "r1", 4, []string{"#0-1"}),
		"huge":             pol("bad", "r1", 4, []string{"ens1#0-99999999999999999999"}),
		"no VFs":           pol("bad", "r1", 0, []string{"ens1"}),
		"negative VFs":     pol("bad", "r1", -1, []string{"ens1"}),
		"priority 100":     pol("bad", "r1", 4, []string{"ens1"}, prio(100)),
		"vfio and RDMA":    pol("bad", "r1", 4, []string{"ens1"}, vfio, rdma),
		"vDPA, odd":        pol("bad", "r1", 4, []string{"ens1"}, vdpa("vdpa")),
		"vDPA and vfio":    pol("bad", "r1", 4, []string{"ens1"}, vdpa("vhost"), vfio),
		"vDPA and RDMA":    pol("bad", "r1", 4, []string{"ens1"}, vdpa("virtio"), rdma),
		"odd driver":       pol("bad", "r1", 4, []string{"ens1"}, func(s *v1.SriovNetworkNodePolicySpec) { s.DeviceType = "foo" }),
	} {
		t.Run(name, func(t *testing.T) {
			got := Node(Input{Policies: []*v1.SriovNetworkNodePolicy{bad, good}, State: node()})
			require.Equal(t, []string{"ens1 3: 1-2=r2/good"}, brief(got.Spec))
			require.Equal(t, map[string]string{"bad": v1.ReasonInvalid, "good": v1.ReasonApplied}, reasons(got))
			require.NotEmpty(t, got.Verdicts[0].Message)
		})
	}
}

// A policy that becomes invalid keeps its VFs.
func TestFaultyPolicyKeepsWhatItHad(t *testing.T) {
	state := node()
	state.Spec = Node(Input{Policies: []*v1.SriovNetworkNodePolicy{pol("a", "r1", 4, []string{"ens1"}, mtu(9000))}, State: state}).Spec
	for name, bad := range map[string]*v1.SriovNetworkNodePolicy{
		"numVfs 70":    pol("a", "r1", 70, []string{"ens1"}),
		"numVfs 0":     pol("a", "r1", 0, []string{"ens1"}),
		"broken range": pol("a", "r1", 4, []string{"ens1#9"}),
	} {
		t.Run(name, func(t *testing.T) {
			got := Node(Input{Policies: []*v1.SriovNetworkNodePolicy{bad}, State: state})
			require.Empty(t, cmp.Diff(state.Spec, got.Spec))
			require.Equal(t, v1.ReasonInvalid, got.Verdicts[0].Reason)
		})
	}
	t.Run("but yields to a sound one", func(t *testing.T) {
		got := Node(Input{Policies: []*v1.SriovNetworkNodePolicy{
			pol("a", "r1", 70, []string{"ens1"}), pol("b", "r2", 2, []string{"ens1"}, prio(1)),
		}, State: state})
		require.Equal(t, []string{"ens1 2: 0-1=r2/b"}, brief(got.Spec))
	})
}

func TestPFAttributes(t *testing.T) {
	got := Node(Input{RdmaMode: "exclusive", State: node(), Policies: []*v1.SriovNetworkNodePolicy{
		pol("a", "r1", 6, []string{"ens1#0-2"}, mtu(1450)), pol("b", "r2", 6, []string{"ens1#3-5"}, mtu(9000), vfio),
	}})
	want := v1.SriovNetworkNodeStateSpec{System: v1.System{RdmaMode: "exclusive"}, Interfaces: []v1.Interface{{
		PciAddress: pf0, Vendor: "8086", DeviceID: "10c9", Mac: "52:54:00:00:00:01", Name: "ens1", NumVfs: 6, Mtu: 9000, VfGroups: []v1.VfGroup{
			{ResourceName: "r1", DeviceType: "netdevice", VfRange: "0-2", PolicyName: "a", Mtu: 1450},
			{ResourceName: "r2", DeviceType: "vfio-pci", VfRange: "3-5", PolicyName: "b", Mtu: 9000},
		},
	}}}
	require.Empty(t, cmp.Diff(want, got.Spec))
}

func TestTopologyOfAResourceIsOneAnswer(t *testing.T) {
	exclude := func(s *v1.SriovNetworkNodePolicySpec) { s.ExcludeTopology = true }
	got := Node(Input{State: node(), Policies: []*v1.SriovNetworkNodePolicy{
		pol("a", "r1", 2, []string{"ens1"}, exclude, prio(1)), pol("b", "r1", 2, []string{"ens2"}),
	}})
	require.Equal(t, map[string]string{"a": v1.ReasonApplied, "b": v1.ReasonConflict}, reasons(got))
	for _, i := range got.Spec.Interfaces {
		require.True(t, i.VfGroups[0].ExcludeTopology, i.Name)
	}
}

func TestExternallyManagedDoesNotMix(t *testing.T) {
	state := node()
	state.Status.Interfaces[0].NumVfs = 5
	got := Node(Input{State: state, Policies: []*v1.SriovNetworkNodePolicy{
		pol("a", "r1", 5, []string{"ens1#0-1"}), pol("b", "r2", 5, []string{"ens1#2-4"}, external, prio(1)),
	}})
	require.Equal(t, []string{"ens1 5: 2-4=r2/b"}, brief(got.Spec))
	require.Equal(t, map[string]string{"a": v1.ReasonConflict, "b": v1.ReasonApplied}, reasons(got))
}

func TestFunctionWithoutPF(t *testing.T) {
	state := &v1.SriovNetworkNodeState{}
	state.Status.Interfaces = []v1.InterfaceExt{{
		Name: "ens5", PciAddress: pf0, Vendor: "8086", DeviceID: "10ca", TotalVfs: 1, NumVfs: 1,
		VFs: []v1.VirtualFunction{{PciAddress: pf0}},
	}}
	got := Node(Input{State: state, Policies: []*v1.SriovNetworkNodePolicy{pol("a", "r1", 1, nil, byRoot(pf0), vfio)}})
	require.Equal(t, []string{"ens5 1: 0-0=r1/a"}, brief(got.Spec))

	got = Node(Input{State: state, Policies: []*v1.SriovNetworkNodePolicy{pol("a", "r1", 2, nil, byRoot(pf0))}})
	require.Empty(t, got.Spec.Interfaces)
	require.Equal(t, v1.ReasonInvalid, got.Verdicts[0].Reason)
}

func TestSelectorOfNodes(t *testing.T) {
	p := pol("a", "r1", 2, []string{"ens1"})
	p.Spec.NodeSelector = map[string]string{"zone": "x", "rack": ""}
	for name, tc := range map[string]struct {
		labels map[string]string
		want   bool
	}{
		"all labels":      {map[string]string{"zone": "x", "rack": "", "more": "y"}, true},
		"one missing":     {map[string]string{"zone": "x"}, false},
		"one other value": {map[string]string{"zone": "y", "rack": ""}, false},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, SelectsNode(p, tc.labels))
			require.Len(t, Node(Input{Policies: []*v1.SriovNetworkNodePolicy{p}, Labels: tc.labels, State: node()}).Verdicts, map[bool]int{true: 1}[tc.want])
		})
	}
}
