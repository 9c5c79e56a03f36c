// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// Each field of a policy, if nothing else is changed, changes what is planned or the verdict
// on the policy. A field that does neither would be accepted and silently ignored.
func TestEveryFieldOfAPolicyCounts(t *testing.T) {
	type spec = v1.SriovNetworkNodePolicySpec
	changes := map[string]func(*spec){
		"ResourceName":            func(s *spec) { s.ResourceName = "r9" },
		"NodeSelector":            func(s *spec) { s.NodeSelector = map[string]string{"zone": "x"} },
		"Priority":                func(s *spec) { s.Priority = nil },
		"Mtu":                     mtu(9000),
		"NumVfs":                  func(s *spec) { s.NumVfs = 3 },
		"DeviceType":              vfio,
		"IsRdma":                  rdma,
		"NeedVhostNet":            func(s *spec) { s.NeedVhostNet = true },
		"LinkType":                func(s *spec) { s.LinkType = "ib" },
		"EswitchMode":             func(s *spec) { s.EswitchMode = v1.EswitchSwitchdev },
		"VdpaType":                vdpa(v1.VdpaTypeVirtio),
		"ExcludeTopology":         func(s *spec) { s.ExcludeTopology = true },
		"ExternallyManaged":       external,
		"Bridge":                  func(s *spec) { s.Bridge.OVS = &v1.OVSConfig{} },
		"NicSelector.Vendor":      func(s *spec) { s.NicSelector.Vendor = "15b3" },
		"NicSelector.DeviceID":    func(s *spec) { s.NicSelector.DeviceID = "101d" },
		"NicSelector.RootDevices": func(s *spec) { s.NicSelector.RootDevices = []string{pf1} },
		"NicSelector.PfNames":     func(s *spec) { s.NicSelector.PfNames = []string{"ens2"} },
		"NicSelector.NetFilter":   func(s *spec) { s.NicSelector.NetFilter = "openstack/NetworkID:1" },
	}
	var all []string
	for f := range fields(reflect.TypeFor[spec]()) {
		if f != "NicSelector" {
			all = append(all, f)
		}
	}
	for f := range fields(reflect.TypeFor[v1.SriovNetworkNicSelector]()) {
		all = append(all, "NicSelector."+f)
	}
	planned := func(mods ...func(*spec)) Result {
		competitor := pol("b", "r2", 2, []string{"ens1"})
		return Node(Input{Policies: []*v1.SriovNetworkNodePolicy{pol("a", "r1", 2, []string{"ens1"}, append([]func(*spec){prio(50)}, mods...)...), competitor}, State: node()})
	}
	before := planned()
	for _, f := range slices.Sorted(slices.Values(all)) {
		require.Contains(t, changes, f, "say here what another value of it is")
		require.NotEmpty(t, cmp.Diff(before, planned(changes[f])), "%s has no effect and nothing says so", f)
	}
}
