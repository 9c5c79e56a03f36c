// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov"
)

// A virtual machine's own NIC is not taken if its address is on a device on top of it.
func TestHostsOwnNICIsNotTaken(t *testing.T) {
	for name, tc := range map[string]struct {
		links map[string]string // below the netdev's directory
		want  string
	}{
		"nothing above":            {map[string]string{"device": "../../../0000:01:01.0", "lower_x": "../x"}, ""},
		"bond, bridge, OVS or VRF": {map[string]string{"master": "../../virtual/net/bond0", "upper_bond0": "../../virtual/net/bond0"}, "has bond0 on top of nosuchnic0"},
		"VLAN or macvlan":          {map[string]string{"upper_nic.7": "../../virtual/net/nic.7"}, "has nic.7 on top of nosuchnic0"},
		"a master alone":           {map[string]string{"master": "../../virtual/net/ovs-system"}, "has ovs-system on top of nosuchnic0"},
		"two":                      {map[string]string{"upper_a": "../a", "upper_b": "../b"}, "has a, b on top of nosuchnic0"},
	} {
		t.Run(name, func(t *testing.T) {
			m := Machine{Files: Files{Root: t.TempDir()}}
			device := filepath.Join(m.Files.Root, "sys/devices/pci0000:00/0000:01:01.0/net/nosuchnic0")
			class := filepath.Join(m.Files.Root, "sys/class/net")
			require.NoError(t, os.MkdirAll(device, 0o755))
			require.NoError(t, os.MkdirAll(class, 0o755))
			require.NoError(t, os.Symlink("../../devices/pci0000:00/0000:01:01.0/net/nosuchnic0", filepath.Join(class, "nosuchnic0")))
			for name, target := range tc.links {
				require.NoError(t, os.Symlink(target, filepath.Join(device, name)))
			}
			err := m.refuseHostUse(libsriov.Function{Netdevs: []string{"nosuchnic0"}})
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, "not taken from the host")
		})
	}
	t.Run("not known", func(t *testing.T) {
		m := Machine{Files: Files{Root: t.TempDir()}}
		class := filepath.Join(m.Files.Root, "sys/class/net")
		require.NoError(t, os.MkdirAll(class, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(class, "nosuchnic0"), nil, 0o600))
		require.ErrorContains(t, m.refuseHostUse(libsriov.Function{Netdevs: []string{"nosuchnic0"}}), "not known what stands on nosuchnic0")
	})
}
