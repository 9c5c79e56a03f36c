// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

func vdpa(kind string) func(*v1.SriovNetworkNodePolicySpec) {
	return func(s *v1.SriovNetworkNodePolicySpec) { s.VdpaType = kind }
}

func TestVDPASteps(t *testing.T) {
	group := func(vfs, kind string, mtu int) v1.VfGroup {
		g := grp(vfs, "netdevice", mtu)
		g.VdpaType = kind
		return g
	}
	has := func(kinds ...string) func(*v1.InterfaceExt) {
		return func(i *v1.InterfaceExt) {
			for at, kind := range kinds {
				if i.VFs[at].VdpaType = kind; kind == "vhost" {
					i.VFs[at].Name, i.VFs[at].Mtu = "", 0
				}
			}
		}
	}
	vhost2 := want(2, group("0-1", "vhost", 0))
	for name, tc := range map[string]struct {
		have  v1.InterfaceExt
		want  v1.Interface
		owned v1.Interface
		ours  bool // vf0 has the name that a daemon gives
		steps []string
	}{
		"as it should be": {have: pfWith(has("vhost", "vhost"), "vp-vdpa", "vp-vdpa"), want: vhost2, owned: vhost2},
		"from nothing": {
			have: pfWith(nil), want: want(2, group("0-0", "vhost", 9000), group("1-1", "virtio", 9000)), owned: want(2, group("0-0", "vhost", 9000), group("1-1", "virtio", 9000)),
			steps: []string{"set MTU of the PF 9000", "create VFs 2", "set vDPA device 0 vhost", "set vDPA device 1 virtio", "set MTU of the VF 1 9000"},
		},
		"one was removed, one is of the other type": {
			have: pfWith(has("", "virtio"), "vp-vdpa", "vp-vdpa"), want: vhost2, owned: vhost2,
			steps: []string{"set vDPA device 0 vhost !vf0", "set vDPA device 1 vhost !vf1"},
		},
		"the policy wants interfaces again": {
			have: pfWith(has("vhost", ""), "vp-vdpa", "vp-vdpa"), want: want(2, grp("0-1", "netdevice", 0)), owned: vhost2,
			steps: []string{"record ownership", "set vDPA device 0 !vf0", "set vDPA device 1 !vf1"},
		},
		"the policy wants user space": {
			have: pfWith(has("vhost"), "vp-vdpa"), want: want(1, grp("0-0", "vfio-pci", 0)), owned: want(1, group("0-0", "vhost", 0)),
			steps: []string{"record ownership", "bind driver 0 vfio-pci !vf0"},
		},
		"a VF that left its group": {
			have: pfWith(has("vhost", "vhost"), "vp-vdpa", "vp-vdpa"), want: want(2, group("0-0", "vhost", 0)), owned: vhost2,
			steps: []string{"record ownership", "set vDPA device 1 !vf1"},
		},
		"what somebody else made stays": {
			have: pfWith(has("vhost", "vhost"), "mlx5_core", "vp-vdpa"), want: want(2, grp("0-0", "netdevice", 0)), owned: want(2, grp("0-0", "netdevice", 0)),
		},
		"one that could not be removed at once": {
			ours: true,
			have: pfWith(has("vhost"), "mlx5_core"), want: want(1, grp("0-0", "netdevice", 0)), owned: want(1, grp("0-0", "netdevice", 0)),
			steps: []string{"set vDPA device 0 !vf0"},
		},
		"of no group": {
			ours: true,
			have: pfWith(has("vhost"), "mlx5_core"), want: want(1), owned: want(1),
		},
	} {
		t.Run(name, func(t *testing.T) {
			have := Have{Interfaces: []v1.InterfaceExt{tc.have}, OurVDPA: map[string]bool{"vf0": tc.ours}, Planned: true, Owned: map[string]Owned{pf0: {Interface: tc.owned}}}
			require.Empty(t, cmp.Diff(tc.steps, write(Steps(have, v1.SriovNetworkNodeStateSpec{Interfaces: []v1.Interface{tc.want}}))))
		})
	}
}

// A VF is offered only once it has the vDPA device that its group asks for.
func TestVDPAIsOffered(t *testing.T) {
	g := grp("0-2", "netdevice", 0)
	g.VdpaType = "vhost"
	have := pfWith(nil, "vp-vdpa", "vp-vdpa", "virtio-pci")
	have.VFs[0].VdpaType, have.VFs[1].VdpaType = "vhost", "virtio"
	got := DevicePlugin([]v1.InterfaceExt{have}, v1.SriovNetworkNodeStateSpec{Interfaces: []v1.Interface{want(3, g)}}, Exceptions{})
	require.Equal(t, []Selector{{PCIAddresses: []string{"vf0"}, VdpaType: "vhost", Drivers: []string{"vp-vdpa"}}}, got.List[0].Selectors)
}

// A VF that still has a vDPA device, whoever created it, is not offered as a network interface.
func TestVDPAIsNoInterface(t *testing.T) {
	have := pfWith(nil, "mlx5_core", "mlx5_core")
	have.VFs[0].VdpaType = "virtio"
	got := DevicePlugin([]v1.InterfaceExt{have}, v1.SriovNetworkNodeStateSpec{Interfaces: []v1.Interface{want(2, grp("0-1", "netdevice", 0))}}, Exceptions{})
	require.Equal(t, []Selector{{PCIAddresses: []string{"vf1"}, Drivers: []string{"mlx5_core"}}}, got.List[0].Selectors)
}
