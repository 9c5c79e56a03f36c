// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/soak"
)

// planned is a node with VFs on ens1, and the policies they come from.
func planned(policies ...*v1.SriovNetworkNodePolicy) *v1.SriovNetworkNodeState {
	s := node()
	s.Spec = Node(Input{Policies: policies, State: s}).Spec
	return s
}

// without drops a PF from the report.
func without(addr string) func(*v1.SriovNetworkNodeState) {
	return func(s *v1.SriovNetworkNodeState) {
		s.Status.Interfaces = slices.DeleteFunc(s.Status.Interfaces, func(i v1.InterfaceExt) bool { return i.PciAddress == addr })
	}
}

// onPF changes what is reported of the PF at pf0.
func onPF(f func(*v1.InterfaceExt)) func(*v1.SriovNetworkNodeState) {
	return func(s *v1.SriovNetworkNodeState) { f(&s.Status.Interfaces[0]) }
}

// As long as its policy exists, a PF keeps its plan, whatever a report lacks.
func TestPlannedPFStaysPlanned(t *testing.T) {
	byName, byAltName := pol("a", "r1", 4, []string{"ens1#1-3"}), pol("a", "r1", 4, []string{"sriov1"})
	byAddress, byKind := pol("a", "r1", 4, nil, byRoot(pf0), vfio), pol("a", "r1", 4, nil, byVendor)
	looks := map[string]func(*v1.SriovNetworkNodeState){
		"no name": onPF(func(i *v1.InterfaceExt) {
			i.Name, i.AltNames, i.Mac, i.PermanentMac, i.LinkType, i.Mtu, i.LinkAdminState = "", nil, "", "", "", 0, ""
		}),
		"renamed":          onPF(func(i *v1.InterfaceExt) { i.Name, i.AltNames = "ens1np0", nil }),
		"missing":          without(pf0),
		"nothing seen":     func(s *v1.SriovNetworkNodeState) { s.Status.Interfaces, s.Status.SyncStatus = nil, v1.SyncFailed },
		"no SR-IOV to see": onPF(func(i *v1.InterfaceExt) { i.TotalVfs = 0 }),
		"no driver":        onPF(func(i *v1.InterfaceExt) { i.Driver, i.Name, i.AltNames, i.TotalVfs = "", "", nil, 0 }),
		"its name is taken": func(s *v1.SriovNetworkNodeState) {
			s.Status.Interfaces[0].Name, s.Status.Interfaces[1].Name = "ens7", "ens1"
			s.Status.Interfaces[0].AltNames = nil
			s.Status.Interfaces[1].AltNames = []string{"sriov1"}
		},
	}
	for name, look := range looks {
		for kind, p := range map[string]*v1.SriovNetworkNodePolicy{"name": byName, "alternative name": byAltName, "address": byAddress, "kind": byKind} {
			t.Run(name+", by "+kind, func(t *testing.T) {
				state := planned(p)
				before := *state.Spec.DeepCopy()
				look(state)
				got := Node(Input{Policies: []*v1.SriovNetworkNodePolicy{p}, State: state})
				require.Equal(t, v1.ReasonApplied, got.Verdicts[0].Reason, got.Verdicts[0].Message)
				names := func(s v1.SriovNetworkNodeStateSpec) v1.SriovNetworkNodeStateSpec {
					for i := range s.Interfaces {
						s.Interfaces[i].Name, s.Interfaces[i].AltNames = "", nil
					}
					return s
				}
				state.Spec = *got.Spec.DeepCopy()
				require.NotEmpty(t, state.Spec.Interfaces[0].Name)
				require.Empty(t, cmp.Diff(names(before), names(got.Spec)))

				t.Log("also in the plan after that, and back")
				require.Empty(t, cmp.Diff(state.Spec, Node(Input{Policies: []*v1.SriovNetworkNodePolicy{p}, State: state}).Spec))
				state.Status = node().Status
				require.Empty(t, cmp.Diff(before, names(Node(Input{Policies: []*v1.SriovNetworkNodePolicy{p}, State: state}).Spec)))

				t.Log("until its policy goes")
				look(state)
				require.Empty(t, Node(Input{State: state}).Spec.Interfaces)
				require.Empty(t, Node(Input{State: state, Policies: []*v1.SriovNetworkNodePolicy{pol("a", "r1", 4, []string{"ens9"})}}).Spec.Interfaces,
					"or selects another PF")
			})
		}
	}
}

// The spec that an older operator wrote does not identify the device.
func TestPlanWithoutADevice(t *testing.T) {
	p := pol("a", "r1", 2, nil, func(s *v1.SriovNetworkNodePolicySpec) {
		s.NicSelector = v1.SriovNetworkNicSelector{Vendor: "8086", DeviceID: "10c9"}
	})
	state := planned(p)
	for i := range state.Spec.Interfaces {
		state.Spec.Interfaces[i].Vendor, state.Spec.Interfaces[i].DeviceID, state.Spec.Interfaces[i].Mac = "", "", ""
	}
	before := *state.Spec.DeepCopy()
	without(pf0)(state)
	got := Node(Input{Policies: []*v1.SriovNetworkNodePolicy{p}, State: state}).Spec
	require.Empty(t, cmp.Diff(before.Interfaces[0], got.Interfaces[0]))
	require.Equal(t, "8086", got.Interfaces[1].Vendor, "which the next plan does")
}

// An MTU that cannot be read is not taken for too low.
func TestExternallyManagedPFWithoutItsName(t *testing.T) {
	p := pol("a", "r1", 2, []string{"ens1"}, external, mtu(1500))
	state := node()
	state.Status.Interfaces[0].NumVfs = 2
	state.Spec = Node(Input{Policies: []*v1.SriovNetworkNodePolicy{p}, State: state}).Spec
	onPF(func(i *v1.InterfaceExt) { i.Name, i.AltNames, i.Mtu = "", nil, 0 })(state)
	got := Node(Input{Policies: []*v1.SriovNetworkNodePolicy{p}, State: state})
	require.Equal(t, v1.ReasonApplied, got.Verdicts[0].Reason, got.Verdicts[0].Message)
	require.Len(t, got.Spec.Interfaces, 1)
}

func TestDriverFits(t *testing.T) {
	for driver, want := range map[string][2]bool{ // netdevice, vfio-pci
		"": {}, "igbvf": {true, false}, "virtio-pci": {true, false}, "mlx5_core": {true, false},
		"vfio-pci": {false, true}, "mlx5_vfio_pci": {false, true}, "hisi_acc_vfio_pci": {false, true},
		"uio_pci_generic": {}, "igb_uio": {}, "pci-stub": {}, "pciback": {},
	} {
		require.Equal(t, want, [2]bool{DriverFits(v1.DeviceTypeNetDevice, driver), DriverFits(v1.DeviceTypeVFIO, driver)}, driver)
	}
}

func TestMessagesNameTheRemedy(t *testing.T) {
	mellanox := func(total int) func(*v1.InterfaceExt) {
		return func(i *v1.InterfaceExt) { i.Vendor, i.DeviceID, i.TotalVfs = "15b3", "101d", total }
	}
	for name, tc := range map[string]struct {
		look   func(*v1.InterfaceExt)
		policy *v1.SriovNetworkNodePolicy
		want   string
	}{
		"too few VFs":         {mellanox(8), pol("a", "r1", 16, []string{"ens1"}), "numVfs 16 exceeds the 8 VFs the device has; its firmware sets the limit: run mstconfig -d " + pf0 + " set SRIOV_EN=1 NUM_OF_VFS=16"},
		"SR-IOV off, by name": {mellanox(0), pol("a", "r1", 4, []string{"ens1"}), "set SRIOV_EN=1 NUM_OF_VFS=4"},
		"SR-IOV off, by kind": {mellanox(0), pol("a", "r1", 4, nil, func(s *v1.SriovNetworkNodePolicySpec) { s.NicSelector = v1.SriovNetworkNicSelector{Vendor: "15b3"} }), "set SRIOV_EN=1 NUM_OF_VFS=4"},
		"netFilter": {func(*v1.InterfaceExt) {}, pol("a", "r1", 1, nil, func(s *v1.SriovNetworkNodePolicySpec) {
			s.NicSelector = v1.SriovNetworkNicSelector{NetFilter: "openstack/NetworkID:x"}
		}), "does not learn the network ids of virtual machines; select by rootDevices"},
		"others have no such tool": {func(*v1.InterfaceExt) {}, pol("a", "r1", 16, []string{"ens1"}), "numVfs 16 exceeds the 7 VFs the device has"},
	} {
		t.Run(name, func(t *testing.T) {
			state := node()
			onPF(tc.look)(state)
			v := Node(Input{Policies: []*v1.SriovNetworkNodePolicy{tc.policy}, State: state}).Verdicts[0]
			require.Contains(t, v.Message, tc.want)
			require.Equal(t, name != "netFilter" && name != "others have no such tool", strings.Contains(v.Message, "mstconfig"))
		})
	}
}

// A PF whose name changes with its eswitch mode does not make the plan alternate.
func TestNameThatChangesWithTheMode(t *testing.T) {
	p := pol("a", "r1", 2, []string{"ens1"}, func(s *v1.SriovNetworkNodePolicySpec) { s.EswitchMode = v1.EswitchSwitchdev })
	state := node()
	for range 4 {
		state.Spec = Node(Input{Policies: []*v1.SriovNetworkNodePolicy{p}, State: state}).Spec
		require.Len(t, state.Spec.Interfaces, 1)
		require.Equal(t, v1.EswitchSwitchdev, state.Spec.Interfaces[0].EswitchMode)
		state.Status.Interfaces[0].EswitchMode, state.Status.Interfaces[0].Name = v1.EswitchSwitchdev, "ens1np0"
	}
	require.Equal(t, "ens1np0", state.Spec.Interfaces[0].Name)
	require.Equal(t, []string{"ens1"}, state.Spec.Interfaces[0].AltNames)
}

func TestAnotherDeviceAtTheAddress(t *testing.T) {
	byName, byKind := pol("a", "r1", 2, []string{"ens1"}), pol("a", "r1", 2, nil, byVendor)
	for name, tc := range map[string]struct {
		policy *v1.SriovNetworkNodePolicy
		look   func(*v1.SriovNetworkNodeState)
		want   []string
	}{
		"of another kind, that nothing selects": {byKind, onPF(func(i *v1.InterfaceExt) { i.Vendor, i.DeviceID, i.PermanentMac = "15b3", "101d", "52:54:00:00:00:99" }), []string{"ens2 2: 0-1=r1/a"}},
		"of the same kind, by another name":     {byName, onPF(func(i *v1.InterfaceExt) { i.Name, i.AltNames, i.PermanentMac = "ens5", nil, "52:54:00:00:00:99" }), nil},
		"that the policy selects too":           {byName, onPF(func(i *v1.InterfaceExt) { i.PermanentMac = "52:54:00:00:00:99" }), []string{"ens1 2: 0-1=r1/a"}},
		"it is at another now":                  {byName, onPF(func(i *v1.InterfaceExt) { i.PciAddress = "0000:07:00.0" }), []string{"ens1 2: 0-1=r1/a"}},
		"its successor is at another": {byName, onPF(func(i *v1.InterfaceExt) { i.PciAddress, i.PermanentMac = "0000:07:00.0", "52:54:00:00:00:99" }),
			[]string{"ens1 2: 0-1=r1/a"}},
	} {
		t.Run(name, func(t *testing.T) {
			state := planned(tc.policy)
			tc.look(state)
			got := Node(Input{Policies: []*v1.SriovNetworkNodePolicy{tc.policy}, State: state})
			require.Equal(t, tc.want, brief(got.Spec))
			for _, i := range got.Spec.Interfaces {
				at := slices.IndexFunc(state.Status.Interfaces, func(f v1.InterfaceExt) bool { return f.PciAddress == i.PciAddress })
				require.Equal(t, state.Status.Interfaces[at].PermanentMac, i.Mac)
			}
		})
	}
}

// Whatever reports leave out, in whatever order: no VF of a policy that still exists
// changes, and once a report is complete the plan is the same as before.
func TestPartialLooksChangeNothing(t *testing.T) {
	for seed := range uint64(soak.Times(2000)) {
		r := rand.New(rand.NewPCG(seed, 7))
		policies := randomPolicies(r)
		state := planned(policies...)
		before := *state.Spec.DeepCopy()
		for range 3 {
			state.Status = node().Status
			for i := range state.Status.Interfaces {
				pf := &state.Status.Interfaces[i]
				switch r.IntN(5) {
				case 0:
					pf.Name, pf.AltNames, pf.PermanentMac, pf.Mac, pf.Mtu, pf.LinkType = "", nil, "", "", 0, ""
				case 1:
					pf.Name, pf.AltNames = pf.Name+"np0", nil
				case 2:
					pf.TotalVfs = 0
				}
			}
			if r.IntN(2) == 0 {
				without([]string{pf0, pf1}[r.IntN(2)])(state)
			}
			state.Spec = Node(Input{Policies: policies, State: state}).Spec
			groups := map[string][]v1.VfGroup{}
			for _, i := range state.Spec.Interfaces {
				groups[i.PciAddress] = i.VfGroups
			}
			for _, i := range before.Interfaces { // another policy may gain what was refused it for one that is out of sight
				require.Subset(t, groups[i.PciAddress], i.VfGroups, "seed %d", seed)
			}
		}
		state.Status = node().Status
		after := Node(Input{Policies: policies, State: state}).Spec
		for i := range after.Interfaces {
			after.Interfaces[i].AltNames = before.Interfaces[i].AltNames
		}
		require.Empty(t, cmp.Diff(before, after), "seed %d", seed)
	}
}

// A policy selects a renamed PF by its old name and, for other VFs, by its new one. Once,
// both were added up: the policy lost all its VFs to another policy, got them back, and so on.
func TestNameOfBeforeAddsNothing(t *testing.T) {
	state := node()
	renamed := &state.Status.Interfaces[0]
	held := pol("held", "a", 1, []string{renamed.Name})
	state.Spec = Node(Input{Policies: []*v1.SriovNetworkNodePolicy{held}, State: state}).Spec
	both := pol("both", "b", 3, []string{renamed.Name, "new#2-2"}, prio(1))
	held.Spec.NicSelector.PfNames = append(held.Spec.NicSelector.PfNames, "#1") // keeps what it has
	prio(0)(&held.Spec)
	renamed.Name, renamed.AltNames = "new", nil
	in := Input{Policies: []*v1.SriovNetworkNodePolicy{held, both}, State: state}
	first := Node(in).Spec
	require.Len(t, first.Interfaces[0].VfGroups, 2)
	state.Spec = first
	require.Equal(t, first, Node(in).Spec)
}
