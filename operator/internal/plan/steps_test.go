// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// pfWith builds a PF with VFs on the given drivers; "igbvf*" is one in a pod.
func pfWith(mods func(*v1.InterfaceExt), drivers ...string) v1.InterfaceExt {
	pf := v1.InterfaceExt{
		Name: "ens1", PciAddress: pf0, Driver: "igb", TotalVfs: 7, NumVfs: len(drivers), Mtu: 1500, LinkAdminState: "up", LinkType: "ETH",
	}
	for i, d := range drivers {
		vf := v1.VirtualFunction{PciAddress: fmt.Sprintf("vf%d", i), VfID: i, Driver: strings.TrimSuffix(d, "*"), Mtu: 1500, Name: fmt.Sprintf("eth%d", i)}
		if d == "" || d == "vfio-pci" || strings.HasSuffix(d, "*") {
			vf.Name, vf.Mtu = "", 0
		}
		pf.VFs = append(pf.VFs, vf)
	}
	if mods != nil {
		mods(&pf)
	}
	return pf
}

func want(numVfs int, groups ...v1.VfGroup) v1.Interface {
	i := v1.Interface{PciAddress: pf0, Name: "ens1", NumVfs: numVfs, VfGroups: groups}
	for _, g := range groups {
		i.Mtu = max(i.Mtu, g.Mtu)
	}
	return i
}

func grp(vfs, deviceType string, mtu int) v1.VfGroup {
	return v1.VfGroup{ResourceName: "r", PolicyName: "p", VfRange: vfs, DeviceType: deviceType, Mtu: mtu}
}

// write prints steps as "op args !disturbed", or ?disturbed if the step yields.
func write(works []Work, problems []Problem) []string {
	var out []string
	for _, w := range works {
		for _, s := range w.Steps {
			line := string(s.Op)
			switch s.Op {
			case OpGUID:
				line = strings.TrimSpace(fmt.Sprintf("%s %d %s", line, s.VF, s.GUID))
			case OpBind:
				line = strings.TrimSpace(fmt.Sprintf("%s %d %s", line, s.VF, s.Driver))
			case OpVDPA:
				line = strings.TrimSpace(fmt.Sprintf("%s %d %s", line, s.VF, s.Mode))
			case OpMAC:
				line += fmt.Sprintf(" %d %s", s.VF, s.MAC)
			case OpVFMTU:
				line += fmt.Sprintf(" %d %d", s.VF, s.Num)
			case OpCreate, OpPFMTU:
				line += fmt.Sprintf(" %d", s.Num)
			case OpEswitch, OpRdmaMode, OpRdmaOption:
				line += " " + s.Mode
			}
			if len(s.Disturbs) > 0 {
				line += map[bool]string{false: " !", true: " ?"}[s.Yields] + strings.Join(s.Disturbs, ",")
			}
			out = append(out, strings.TrimSpace(line))
		}
	}
	for _, p := range problems {
		out = append(out, "problem: "+p.Err.Error())
	}
	return out
}

func TestSteps(t *testing.T) {
	kernel3 := want(3, grp("0-2", "netdevice", 0))
	for name, tc := range map[string]struct {
		have  v1.InterfaceExt
		want  v1.Interface
		owned *v1.Interface
		steps []string
	}{
		"as it should be": {have: pfWith(nil, "igbvf", "igbvf*", "igbvf"), want: kernel3, owned: &kernel3},
		"from nothing": {
			have: pfWith(func(i *v1.InterfaceExt) { i.LinkAdminState = "down" }), want: want(2, grp("0-0", "netdevice", 9000), grp("1-1", "vfio-pci", 0)),
			steps: []string{
				"record ownership", "set link up", "set MTU of the PF 9000", "create VFs 2",
				"bind driver 0", "set MTU of the VF 0 9000", "bind driver 1 vfio-pci",
			},
		},
		"growth removes first, and says whom it disturbs": {
			have: pfWith(nil, "igbvf", "igbvf*"), want: kernel3, owned: &kernel3,
			steps: []string{"remove VFs !vf0,vf1", "create VFs 3", "bind driver 0", "bind driver 1", "bind driver 2"},
		},
		"one VF lost its driver": {
			have: pfWith(nil, "igbvf", "", "igbvf*"), want: kernel3, owned: &kernel3, steps: []string{"bind driver 1 !vf1"},
		},
		"and its MTU with it": {
			have: pfWith(nil, "igbvf", ""), want: want(2, grp("0-1", "netdevice", 1500)), owned: new(want(2, grp("0-1", "netdevice", 1500))),
			steps: []string{"bind driver 1 !vf1", "set MTU of the VF 1 1500"},
		},
		"PF down disturbs nobody": {
			have: pfWith(func(i *v1.InterfaceExt) { i.LinkAdminState = "down" }, "igbvf", "igbvf*", "igbvf"), want: kernel3, owned: &kernel3,
			steps: []string{"set link up"},
		},
		"PF MTU is raised, never lowered": {
			have: pfWith(func(i *v1.InterfaceExt) { i.Mtu = 9000 }, "igbvf"), want: want(1, grp("0-0", "netdevice", 1500)),
			owned: new(want(1, grp("0-0", "netdevice", 1500))),
		},
		"VF MTU where it can be seen": {
			have: pfWith(nil, "igbvf", "igbvf*"), want: want(2, grp("0-1", "netdevice", 1400)), owned: new(want(2, grp("0-1", "netdevice", 1400))),
			steps: []string{"set MTU of the VF 0 1400"},
		},
		"netdevice to vfio": {
			have: pfWith(nil, "igbvf", "igbvf*"), want: want(2, grp("0-1", "vfio-pci", 0)), owned: new(want(2, grp("0-1", "netdevice", 0))),
			steps: []string{"record ownership", "bind driver 0 vfio-pci !vf0", "bind driver 1 vfio-pci !vf1"},
		},
		"a VF that left its vfio group goes back to the kernel, others are left alone": {
			have: pfWith(nil, "vfio-pci", "vfio-pci", "vfio-pci"), want: want(3, grp("0-0", "vfio-pci", 0)),
			owned: new(want(3, grp("0-1", "vfio-pci", 0))), steps: []string{"record ownership", "bind driver 1 !vf1"},
		},
		"externally managed: no count, no link": {
			have:  pfWith(func(i *v1.InterfaceExt) { i.LinkAdminState = "down" }, "igbvf", "igbvf", "igbvf", "igbvf"),
			want:  func() v1.Interface { w := kernel3; w.ExternallyManaged = true; return w }(),
			owned: func() *v1.Interface { w := kernel3; w.ExternallyManaged = true; return &w }(),
		},
		"externally managed, too few": {
			have:  pfWith(nil, "igbvf"),
			want:  func() v1.Interface { w := kernel3; w.ExternallyManaged = true; return w }(),
			steps: []string{"problem: externallyManaged: 3 VFs wanted, 1 exist; create them"},
		},
		"switchdev without devlink": {
			have:  pfWith(nil, "igbvf", "igbvf", "igbvf"),
			want:  func() v1.Interface { w := kernel3; w.EswitchMode = "switchdev"; return w }(),
			steps: []string{"problem: eSwitchMode switchdev: the driver igb does not offer eswitch modes through devlink"},
		},
		"to switchdev": {
			have: pfWith(func(i *v1.InterfaceExt) { i.EswitchMode = "legacy" }, "iavf"),
			want: func() v1.Interface { w := want(1, grp("0-0", "netdevice", 0)); w.EswitchMode = "switchdev"; return w }(),
			steps: []string{
				"record ownership", "remove VFs !vf0", "set eswitch mode switchdev", "set hw-tc-offload", "create VFs 1", "bind driver 0",
			},
		},
		"too many": {have: pfWith(nil), want: want(70, grp("0-69", "netdevice", 0)), steps: []string{"problem: 70 VFs wanted, the device has 7"}},
		"function without a PF: only its driver": {
			have: v1.InterfaceExt{Name: "ens5", PciAddress: pf0, TotalVfs: 1, NumVfs: 1, Driver: "igbvf", LinkAdminState: "down", Mtu: 1500,
				VFs: []v1.VirtualFunction{{PciAddress: pf0, Driver: "igbvf", Name: "ens5", Mtu: 1500}}},
			want:  want(1, grp("0-0", "vfio-pci", 9000)),
			steps: []string{"record ownership", "bind driver 0 vfio-pci !" + pf0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			have := Have{Interfaces: []v1.InterfaceExt{tc.have}, Planned: true}
			if tc.owned != nil {
				have.Owned = map[string]Owned{pf0: {Interface: *tc.owned}}
			}
			require.Empty(t, cmp.Diff(tc.steps, write(Steps(have, v1.SriovNetworkNodeStateSpec{Interfaces: []v1.Interface{tc.want}}))))
		})
	}
}

func TestRelease(t *testing.T) {
	vfio2 := want(2, grp("0-1", "vfio-pci", 0))
	ext := vfio2
	ext.ExternallyManaged = true
	for name, tc := range map[string]struct {
		have    []v1.InterfaceExt
		owned   map[string]Owned
		planned bool
		steps   []string
	}{
		"ours": {[]v1.InterfaceExt{pfWith(nil, "vfio-pci", "igbvf")}, map[string]Owned{pf0: {Interface: vfio2}}, true, []string{"remove VFs !vf0,vf1", "drop ownership"}},
		"with the MTU we raised": {
			[]v1.InterfaceExt{pfWith(func(i *v1.InterfaceExt) { i.Mtu = 9000 }, "igbvf")},
			map[string]Owned{pf0: {Interface: want(1, grp("0-0", "netdevice", 9000)), OriginalMTU: 1500}}, true,
			[]string{"remove VFs !vf0", "set MTU of the PF 1500", "drop ownership"},
		},
		"nobody has looked":    {[]v1.InterfaceExt{pfWith(nil, "vfio-pci", "igbvf")}, map[string]Owned{pf0: {Interface: vfio2}}, false, nil},
		"not ours":             {[]v1.InterfaceExt{pfWith(nil, "igbvf")}, nil, true, nil},
		"externally managed":   {[]v1.InterfaceExt{pfWith(nil, "vfio-pci", "igbvf")}, map[string]Owned{pf0: {Interface: ext}}, true, []string{"bind driver 0 !vf0", "drop ownership"}},
		"the PF is gone":       {nil, map[string]Owned{pf0: {Interface: vfio2}}, true, []string{"drop ownership"}},
		"VFs are gone already": {[]v1.InterfaceExt{pfWith(nil)}, map[string]Owned{pf0: {Interface: vfio2}}, true, []string{"drop ownership"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := write(Steps(Have{Interfaces: tc.have, Owned: tc.owned, Planned: tc.planned}, v1.SriovNetworkNodeStateSpec{}))
			require.Empty(t, cmp.Diff(tc.steps, got))
		})
	}
}

// A PF that the operator did not know of when it planned is not released.
func TestUnreportedPFIsNotReleased(t *testing.T) {
	have := Have{
		Interfaces: []v1.InterfaceExt{pfWith(nil, "vfio-pci", "igbvf")}, Planned: true,
		Owned: map[string]Owned{pf0: {Interface: want(2, grp("0-1", "vfio-pci", 0))}}, Unreported: map[string]bool{pf0: true},
	}
	require.Empty(t, write(Steps(have, v1.SriovNetworkNodeStateSpec{})))
	have.Unreported = map[string]bool{"0000:7f:00.0": true}
	require.NotEmpty(t, write(Steps(have, v1.SriovNetworkNodeStateSpec{})))
}

func TestMissingPFAndRdmaMode(t *testing.T) {
	spec := v1.SriovNetworkNodeStateSpec{Interfaces: []v1.Interface{want(1, grp("0-0", "netdevice", 0))}, System: v1.System{RdmaMode: "exclusive"}}
	require.Equal(t, []string{"problem: RDMA mode exclusive: the node has no RDMA subsystem", "problem: the PF is not there; if it was taken out for good, delete this SriovNetworkNodeState, and it is planned anew"}, write(Steps(Have{}, spec)))
	require.Equal(t, []string{"write RDMA mode for later boots exclusive", "set RDMA mode exclusive", "problem: the PF is not there; if it was taken out for good, delete this SriovNetworkNodeState, and it is planned anew"}, write(Steps(Have{RdmaMode: "shared"}, spec)))
	require.Equal(t, []string{"problem: the PF is not there; if it was taken out for good, delete this SriovNetworkNodeState, and it is planned anew"},
		write(Steps(Have{RdmaErr: errors.New("input/output error"), RdmaOption: "shared"}, spec)), "a mode that could not be read is left alone")
}

func TestDevicePlugin(t *testing.T) {
	have := []v1.InterfaceExt{pfWith(nil, "igbvf", "igbvf*", "vfio-pci", "", "igbvf")}
	vhost := grp("4-4", "netdevice", 0)
	vhost.NeedVhostNet = true
	w := want(5, grp("0-1", "netdevice", 0), v1.VfGroup{ResourceName: "dpdk", VfRange: "2-3", DeviceType: "vfio-pci", ExcludeTopology: true}, vhost)
	spec := v1.SriovNetworkNodeStateSpec{Interfaces: []v1.Interface{w}}

	require.Empty(t, cmp.Diff(Resources{List: []Resource{
		{Name: "dpdk", DeviceType: "netDevice", ExcludeTopology: true, Selectors: []Selector{{PCIAddresses: []string{"vf2"}, Drivers: []string{"vfio-pci"}}}},
		{Name: "r", DeviceType: "netDevice", Selectors: []Selector{{PCIAddresses: []string{"vf0", "vf1"}, Drivers: []string{"igbvf"}}, {PCIAddresses: []string{"vf4"}, NeedVhostNet: true, Drivers: []string{"igbvf"}}}},
	}}, DevicePlugin(have, spec, Exceptions{})))

	empty := Resource{Name: "dpdk", DeviceType: "netDevice", ExcludeTopology: true, Selectors: []Selector{{Vendors: []string{"ffff"}}}}
	require.Empty(t, cmp.Diff(Resources{List: []Resource{
		empty,
		{Name: "r", DeviceType: "netDevice", Selectors: []Selector{{PCIAddresses: []string{"vf1"}, Drivers: []string{"igbvf"}}}},
	}}, DevicePlugin(have, spec, Exceptions{Withhold: map[string]bool{"vf0": true, "vf2": true, "vf4": true}})))

	require.Empty(t, cmp.Diff(Resources{List: []Resource{
		empty, {Name: "r", DeviceType: "netDevice", Selectors: []Selector{{Vendors: []string{"ffff"}}}},
	}}, DevicePlugin(nil, spec, Exceptions{})), "there before its VFs are")
	require.Empty(t, cmp.Diff(Resources{List: []Resource{}}, DevicePlugin(have, v1.SriovNetworkNodeStateSpec{}, Exceptions{})))

	bound := spec
	bound.Interfaces = []v1.Interface{w}
	bound.Interfaces[0].Mac = "02:00:00:00:00:01"
	other := []v1.InterfaceExt{have[0]}
	other[0].PermanentMac = "02:00:00:00:00:02"
	require.Empty(t, cmp.Diff(DevicePlugin(nil, bound, Exceptions{}), DevicePlugin(other, bound, Exceptions{})), "VFs of another NIC at the address")
	other[0].PermanentMac = "02:00:00:00:00:01"
	require.Empty(t, cmp.Diff(DevicePlugin(have, spec, Exceptions{}), DevicePlugin(other, bound, Exceptions{})))
}

func TestRdmaModeOfLaterBoots(t *testing.T) {
	for name, tc := range map[string]struct {
		have  Have
		want  string
		steps []string
	}{
		"after a reboot in which the option held": {Have{RdmaMode: "exclusive", RdmaOption: "exclusive"}, "exclusive", nil},
		"after one in which it did not":           {Have{RdmaMode: "shared", RdmaOption: "exclusive"}, "exclusive", []string{"set RDMA mode exclusive"}},
		"not wanted any more":                     {Have{RdmaMode: "shared", RdmaOption: "exclusive", Planned: true}, "", []string{"write RDMA mode for later boots"}},
		"nobody has looked":                       {Have{RdmaMode: "shared", RdmaOption: "exclusive"}, "", nil},
		"the file is somebody else's":             {Have{RdmaMode: "shared", RdmaOption: "unknown", Planned: true}, "", nil},
		"no RDMA subsystem":                       {Have{Planned: true}, "shared", nil},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.steps, write(Steps(tc.have, v1.SriovNetworkNodeStateSpec{System: v1.System{RdmaMode: tc.want}})))
		})
	}
}
