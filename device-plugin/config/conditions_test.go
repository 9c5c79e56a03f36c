// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/device"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/stretchr/testify/require"
)

// samples have, by field of Selector, what a configuration says to set it, the type of pool
// it does so in, and what is then read of the host.
var samples = map[string]struct {
	key, value string
	kind       config.DeviceType
	needs      device.Needs
}{
	"Vendors":      {"vendors", `["15b3"]`, config.NetDevice, device.Needs{}},
	"Devices":      {"devices", `["101b"]`, config.NetDevice, device.Needs{VFNumbers: true}},
	"Drivers":      {"drivers", `["mlx5_core"]`, config.NetDevice, device.Needs{}},
	"PCIAddresses": {"pciAddresses", `["0000:09:00.0"]`, config.NetDevice, device.Needs{}},
	"ACPIIndexes":  {"acpiIndexes", `["7"]`, config.NetDevice, device.Needs{ACPIIndex: true}},
	"PFNames":      {"pfNames", `["other#0"]`, config.NetDevice, device.Needs{}},
	"RootDevices":  {"rootDevices", `["0000:09:00.0#0"]`, config.NetDevice, device.Needs{}},
	"LinkTypes":    {"linkTypes", `["infiniband"]`, config.NetDevice, device.Needs{LinkType: true}},
	"DDPProfiles":  {"ddpProfiles", `["p"]`, config.NetDevice, device.Needs{DDP: true}},
	"PKeys":        {"pKeys", `["0x8001"]`, config.NetDevice, device.Needs{PKey: true}},
	"AuxTypes":     {"auxTypes", `["sf"]`, config.AuxNetDevice, device.Needs{Aux: true}},
	"VF":           {"isVf", `true`, config.NetDevice, device.Needs{}},
	"RDMA":         {"isRdma", `true`, config.NetDevice, device.Needs{RDMA: true}},
	"VDPA":         {"vdpaType", `"vhost"`, config.NetDevice, device.Needs{VDPA: true}},
	"NeedVhostNet": {"needVhostNet", `true`, config.NetDevice, device.Needs{}},
}

// Every field of a selector is set by a key, and setting only it keeps a device out that
// does not meet it. needVhostNet is no condition, which the tests of what containers get
// look after.
func TestEveryFieldOfASelectorMatters(t *testing.T) {
	t.Parallel()
	netdev := device.Device{
		ID: "0000:01:00.1", Type: config.NetDevice, PFNames: []string{"pf0"}, Number: 3, LinkType: libsriov.LinkEther, ACPIIndex: "1", PKey: "0xffff", DDP: "q",
		Function: libsriov.Function{
			Address: libsriov.Address{Bus: 1, Function: 1}, Vendor: 0x8086, Device: 0x154c, Driver: "iavf", Netdevs: []string{"eth0"},
		},
	}
	fields := reflect.TypeFor[config.Selector]()
	require.Len(t, config.Conditions, fields.NumField())
	for i := range fields.NumField() {
		name := fields.Field(i).Name
		t.Run(name, func(t *testing.T) {
			sample, known := samples[name]
			require.True(t, known, "a new field needs a sample here")
			text := `"deviceType": "` + string(sample.kind) + `", "selectors": {"` + sample.key + `": ` + sample.value + `}`
			cfg, err := config.Parse([]byte(pool(text)), "example.com")
			require.NoError(t, err)
			s := cfg.Pools[0].Selectors[0]
			for j := range fields.NumField() {
				require.Equal(t, j != i, reflect.ValueOf(s).Field(j).IsZero(), fields.Field(j).Name)
			}
			require.Equal(t, sample.needs, config.NeedsOf(cfg.Pools))
			failed := s.Fails(&netdev, false)
			if name == "NeedVhostNet" {
				require.Equal(t, -1, failed)
				return
			}
			require.GreaterOrEqual(t, failed, 0)
			c := config.Conditions[failed]
			require.Equal(t, sample.key, c.Key)
			require.True(t, strings.HasPrefix(c.Explain(&s, &netdev), sample.key+": "), c.Explain(&s, &netdev))
		})
	}
}

// A device that has everything meets every condition.
func TestADeviceMeetsEveryCondition(t *testing.T) {
	t.Parallel()
	parent := libsriov.Address{Bus: 9}
	d := device.Device{
		ID: "mlx5_core.sf.1", Type: config.NetDevice, PF: &parent, PFNames: []string{"OTHER"}, LinkType: libsriov.LinkInfiniBand, ACPIIndex: "7",
		PKey: "0x8001", DDP: "p", RDMACapable: true, Bound: []libsriov.VDPA{{Driver: libsriov.VDPAVhost}},
		Function: libsriov.Function{Address: parent, Vendor: 0x15b3, Device: 0x101b, Driver: "mlx5_core"},
	}
	for name, sample := range samples {
		text := `"deviceType": "` + string(sample.kind) + `", "selectors": {"` + sample.key + `": ` + sample.value + `}`
		cfg, err := config.Parse([]byte(pool(text)), "example.com")
		require.NoError(t, err)
		require.Equal(t, -1, cfg.Pools[0].Selectors[0].Fails(&d, false), "%s: give the device of this test what the sample asks for", name)
	}
}

// What the host does not say while a pod has the interface counts as it was; all else is
// checked also then.
func TestConditionsOfAHeldDevice(t *testing.T) {
	t.Parallel()
	unsaid := map[string]bool{"LinkTypes": true, "PKeys": true, "RDMA": true, "NeedVhostNet": true}
	for name, sample := range samples {
		text := `"deviceType": "` + string(sample.kind) + `", "selectors": {"` + sample.key + `": ` + sample.value + `}`
		cfg, err := config.Parse([]byte(pool(text)), "example.com")
		require.NoError(t, err)
		require.Equal(t, unsaid[name], cfg.Pools[0].Selectors[0].Fails(&device.Device{}, true) < 0, name)
	}
}
