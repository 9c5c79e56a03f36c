// SPDX-License-Identifier: Apache-2.0

package offer_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/dra/offer"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/stretchr/testify/require"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

func vf(t testing.TB, pf, i int) pool.Member {
	t.Helper()
	parent, err := libsriov.ParseAddress(fmt.Sprintf("0000:%02x:00.0", pf))
	require.NoError(t, err)
	self, err := libsriov.ParseAddress(fmt.Sprintf("0000:%02x:%02x.%d", pf, 0x10+i/8, i%8))
	require.NoError(t, err)
	d := pool.Device{ID: self.String(), Type: config.NetDevice, PF: &parent, PFNames: []string{fmt.Sprintf("ens%d", pf)}, Number: uint32(i)}
	d.Function = libsriov.Function{Address: self, Vendor: 0x8086, Device: 0x10ca, Driver: "iavf", NUMANode: 1}
	d.LinkType = libsriov.LinkEther
	return pool.Member{Device: d}
}

func resource(name string, members ...pool.Member) offer.Pool {
	return offer.Pool{Pool: config.Pool{Resource: config.Resource{Prefix: "openshift.io", Name: name}, DeviceType: config.NetDevice}, Members: members}
}

var options = offer.Options{Driver: "sriovnetwork.k8snetworkplumbingwg.io", Node: "node-1"}

func TestAttributes(t *testing.T) {
	t.Parallel()
	o := options
	o.Facts = func(pool.Device) offer.Facts {
		return offer.Facts{PCIeRoot: "pci0000:00", PFDevice: "10c9", EswitchMode: "legacy", Fabric: "a1b2", MTU: 9000, SpeedMbps: 1000}
	}
	got := offer.Publish([]offer.Pool{resource("vfs", vf(t, 3, 9))}, o)
	require.Empty(t, got.Problems)
	device := got.Resources.Pools["node-1"].Slices[0].Devices[0]
	require.Equal(t, "0000-03-11-1", device.Name)
	require.Empty(t, validation.IsDNS1123Label(device.Name))
	values := map[string]any{}
	for name, a := range device.Attributes {
		switch {
		case a.StringValue != nil:
			values[string(name)] = *a.StringValue
		case a.IntValue != nil:
			values[string(name)] = *a.IntValue
		case a.BoolValue != nil:
			values[string(name)] = *a.BoolValue
		}
	}
	require.Equal(t, map[string]any{
		"vendor": "8086", "deviceID": "10ca", "pfDeviceID": "10c9", "pciAddress": "0000:03:11.1", "PFName": "ens3",
		"pfPciAddress": "0000:03:00.0", "EswitchMode": "legacy", "vfID": int64(9), "linkType": "ethernet", "rdmaCapable": false,
		"driver": "iavf", "mtu": int64(9000), "speedMbps": int64(1000), "fabric": "a1b2",
		"k8s.cni.cncf.io/deviceID": "0000:03:11.1", "k8s.cni.cncf.io/resourceName": "openshift.io/vfs",
		"resource.kubernetes.io/pciBusID": "0000:03:11.1", "resource.kubernetes.io/pcieRoot": "pci0000:00", "resource.kubernetes.io/numaNode": int64(1),
	}, values)
	require.LessOrEqual(t, len(values), resourceapi.ResourceSliceMaxAttributesAndCapacitiesPerDevice)
}

func TestWhatIsNotKnownIsNotPublished(t *testing.T) {
	t.Parallel()
	m := vf(t, 3, 0)
	m.NUMANode, m.PF, m.PFNames, m.LinkType, m.Driver = -1, nil, nil, 0, ""
	got := offer.Publish([]offer.Pool{resource(strings.Repeat("x", 60), m)}, options)
	device := got.Resources.Pools["node-1"].Slices[0].Devices[0]
	for _, name := range []resourceapi.QualifiedName{
		"resource.kubernetes.io/numaNode", "resource.kubernetes.io/pcieRoot", "pfPciAddress", "PFName", "vfID", "linkType", "driver", "mtu",
		offer.AttributeResourceName, // of more than 64 bytes
	} {
		require.NotContains(t, device.Attributes, name)
	}
	require.Len(t, got.Problems, 1)
	require.ErrorContains(t, got.Problems[0], "k8s.cni.cncf.io/resourceName")
}

func TestSlices(t *testing.T) {
	t.Parallel()
	var members []pool.Member
	for pf := 9; pf > 0; pf-- { // not in the order of addresses
		for i := 31; i >= 0; i-- {
			members = append(members, vf(t, pf, i))
		}
	}
	pools := []offer.Pool{resource("a", members[:100]...), resource("b", members[100:]...)}
	first := offer.Publish(pools, options).Resources.Pools["node-1"].Slices
	seen := map[string]bool{}
	last := ""
	for _, s := range first {
		require.LessOrEqual(t, len(s.Devices), 64)
		for _, d := range s.Devices {
			require.False(t, seen[d.Name], "twice: %s", d.Name)
			require.Greater(t, d.Name, last, "in the order of PF and index")
			seen[d.Name], last = true, d.Name
		}
	}
	require.Len(t, seen, len(members))
	require.Len(t, first, 5)
	require.Equal(t, first, offer.Publish(pools, options).Resources.Pools["node-1"].Slices)
	// A link that goes down changes a device, not the slices' membership.
	pools[0].Members[3].Unhealthy = pool.NoCarrier
	again := offer.Publish(pools, options).Resources.Pools["node-1"].Slices
	for i := range first {
		require.Len(t, again[i].Devices, len(first[i].Devices))
	}
}

func TestNoDevicesIsOneEmptySlice(t *testing.T) {
	t.Parallel()
	got := offer.Publish(nil, options)
	require.Len(t, got.Resources.Pools["node-1"].Slices, 1)
	require.Empty(t, got.Resources.Pools["node-1"].Slices[0].Devices)
}

func TestHealth(t *testing.T) {
	t.Parallel()
	down, gone := vf(t, 1, 1), vf(t, 1, 2)
	down.Unhealthy, gone.Unhealthy = pool.NoCarrier, "in use by a pod, but gone"
	pools := []offer.Pool{resource("vfs", vf(t, 1, 0), down, gone)}
	health := []offer.Health{
		{Device: "0000-01-10-0"}, {Device: "0000-01-10-1", Unhealthy: pool.NoCarrier},
		{Device: "0000-01-10-2", Unhealthy: gone.Unhealthy},
	}
	for name, tc := range map[string]struct {
		change func(*offer.Options)
		taints map[string]string
	}{
		"taints":   {func(*offer.Options) {}, map[string]string{"0000-01-10-0": "", "0000-01-10-1": "sriovkit.io/no-carrier:NoSchedule", "0000-01-10-2": "sriovkit.io/unusable:NoExecute"}},
		"eviction": {func(o *offer.Options) { o.EvictOnNoCarrier = true }, map[string]string{"0000-01-10-0": "", "0000-01-10-1": "sriovkit.io/no-carrier:NoExecute", "0000-01-10-2": "sriovkit.io/unusable:NoExecute"}},
		"not selected any more": {func(o *offer.Options) { o.AsGiven = func(m *pool.Member) bool { return m.Driver == "iavf" } },
			map[string]string{"0000-01-10-0": "", "0000-01-10-1": "sriovkit.io/no-carrier:NoSchedule", "0000-01-10-2": "sriovkit.io/unusable:NoSchedule"}},
		"without taints": {func(o *offer.Options) { o.NoTaints = true }, map[string]string{"0000-01-10-0": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options
			tc.change(&o)
			got := offer.Publish(pools, o)
			taints := map[string]string{}
			for _, d := range got.Resources.Pools["node-1"].Slices[0].Devices {
				taints[d.Name] = ""
				for _, taint := range d.Taints {
					taints[d.Name] += taint.Key + ":" + string(taint.Effect)
				}
			}
			require.Equal(t, tc.taints, taints)
			require.Equal(t, health, got.Health)
		})
	}
}

func BenchmarkPublish1024(b *testing.B) {
	var members []pool.Member
	for pf := range 16 {
		for i := range 64 {
			members = append(members, vf(b, pf+1, i))
		}
	}
	pools := []offer.Pool{resource("vfs", members...)}
	for b.Loop() {
		offer.Publish(pools, options)
	}
}
