// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/multus-shim/annotation"
	"github.com/sriovkit/sriovkit/multus-shim/conf"
	"github.com/sriovkit/sriovkit/multus-shim/nad"
)

func network(t *testing.T, config, selection string) Network {
	t.Helper()
	c, err := nad.Parse([]byte(config), "cni-name")
	require.NoError(t, err)
	n := Network{Config: c}
	if selection != "" {
		n.Selection, err = annotation.ParseOne(selection, "ns")
		require.NoError(t, err)
		n.NAD = n.Selection.Ref()
	}
	return n
}

func TestInterfaces(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		existing []string
		requests []string // of the networks after the default one
		want     []string
		err      string
	}{
		"none":                {nil, nil, []string{"eth0"}, ""},
		"by index":            {nil, []string{"", ""}, []string{"eth0", "net1", "net2"}, ""},
		"request before auto": {nil, []string{"net2", ""}, []string{"eth0", "net2", "net3"}, ""},
		"request after auto":  {nil, []string{"", "net1"}, []string{"eth0", "net2", "net1"}, ""},
		"requested twice":     {nil, []string{"a", "a"}, nil, `interface "a" is already that of network`},
		"that of the default": {nil, []string{"eth0"}, nil, `interface "eth0" is already that of network dflt`},
		"exists":              {[]string{"lo", "eth0", "net1"}, []string{"", "a", ""}, []string{"eth0", "net2", "a", "net3"}, ""},
		"requested, exists":   {[]string{"lo"}, []string{"lo"}, nil, "interface lo exists in the pod already"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			networks := []Network{{Config: nad.Config{Name: "dflt"}}}
			for _, r := range tc.requests {
				networks = append(networks, Network{NAD: "ns/n", Selection: annotation.Selection{Interface: r}})
			}
			got, err := interfaces("eth0", tc.existing, networks)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestRuntimeConfigReachesTheDefaultNetworkOnly(t *testing.T) {
	t.Parallel()
	const all = `{"type":"a","capabilities":{"portMappings":true,"mac":true,"vendor.io/x":true}}`
	attachments, _, err := Make(Input{
		ContainerID: "c", Ifname: "eth0", Args: conf.Args{{"K8S_POD_NAME", "p"}, {"IP", "10.0.0.1"}},
		RuntimeConfig: map[string]json.RawMessage{
			"portMappings": json.RawMessage(`[{"hostPort":80}]`), "vendor.io/x": json.RawMessage(`1`), "dns": json.RawMessage(`{}`),
		},
		Networks: []Network{network(t, all, ""), network(t, all, `[{"name":"neta","mac":"02:00:00:00:00:01"}]`)},
	})
	require.NoError(t, err)
	require.Len(t, attachments, 2)
	assert.Equal(t, map[string]json.RawMessage{
		"portMappings": json.RawMessage(`[{"hostPort":80}]`), "vendor.io/x": json.RawMessage(`1`),
	}, attachments[0].CapabilityArgs, "known or not, if declared")
	assert.Equal(t, map[string]json.RawMessage{"mac": json.RawMessage(`"02:00:00:00:00:01"`)}, attachments[1].CapabilityArgs)
	assert.Equal(t, conf.Args{{"K8S_POD_NAME", "p"}, {"IP", "10.0.0.1"}, {"IgnoreUnknown", "1"}}, attachments[0].Args)
	assert.Equal(t, conf.Args{{"K8S_POD_NAME", "p"}, {"IgnoreUnknown", "1"}, {"MAC", "02:00:00:00:00:01"}}, attachments[1].Args)
}

func TestCapabilityThatNobodyDeclares(t *testing.T) {
	t.Parallel()
	in := Input{Ifname: "eth0", Networks: []Network{
		network(t, `{"type":"a"}`, ""),
		network(t, `{"plugins":[{"type":"a","capabilities":{"mac":true}},{"type":"b"}]}`,
			`[{"name":"neta","mac":"02:00:00:00:00:01","ips":["10.0.0.1"],"bandwidth":{"ingressRate":1},"infiniband-guid":"02:00:00:00:00:00:00:01","portMappings":[{"hostPort":1,"containerPort":1}]}]`),
	}}
	attachments, _, err := Make(in)
	require.ErrorContains(t, err, "network ns/neta: bandwidth, infinibandGUID, ips, portMappings asked for")
	assert.Nil(t, attachments)

	in.Lenient = true
	attachments, warnings, err := Make(in)
	require.NoError(t, err)
	assert.Len(t, warnings, 1)
	assert.Equal(t, map[string]json.RawMessage{"mac": json.RawMessage(`"02:00:00:00:00:01"`)}, attachments[1].CapabilityArgs)
}

func TestInjectionKeepsBytes(t *testing.T) {
	t.Parallel()
	n := network(t, `{"big":12345678901234567890,"type":"a","args":{"cni":{"keep":1,"deep":{"x":1,"y":2}}},"after":true}`,
		`[{"name":"neta","cni-args":{"deep":{"x":1,"y":3},"new":"v"}}]`)
	n.Resource = "r"
	attachments, _, err := Make(Input{
		Ifname: "eth0", Networks: []Network{network(t, `{"type":"d"}`, ""), n}, Devices: Devices{"r": {"0000:01:00.1"}},
	})
	require.NoError(t, err)
	assert.Equal(t,
		`{"big":12345678901234567890,"type":"a","args":{"cni":{"keep":1,"deep":{"x":1,"y":3},"new":"v"}},"after":true,"deviceID":"0000:01:00.1","pciBusID":"0000:01:00.1"}`,
		string(attachments[1].Plugins[0]))

	bad := network(t, `{"type":"a","args":"str"}`, `[{"name":"neta","cni-args":{}}]`)
	_, _, err = Make(Input{Ifname: "eth0", Networks: []Network{network(t, `{"type":"d"}`, ""), bad}})
	require.ErrorContains(t, err, "network ns/neta: plugin a: args: cannot merge")
	bad = network(t, `{"type":"a","args":{"cni":"str"}}`, `[{"name":"neta","cni-args":{}}]`)
	_, _, err = Make(Input{Ifname: "eth0", Networks: []Network{network(t, `{"type":"d"}`, ""), bad}})
	require.ErrorContains(t, err, "network ns/neta: plugin a: args.cni: cannot merge")
}

func TestDevicesAreSharedOut(t *testing.T) {
	t.Parallel()
	const config = `{"type":"sriov","capabilities":{"deviceID":true,"CNIDeviceInfoFile":true}}`
	withResource := func(selection string) Network {
		n := network(t, config, selection)
		n.Resource = "intel.com/vf"
		return n
	}
	in := Input{
		ContainerID: "c", Ifname: "eth0", DeviceInfoDir: "/d", Devices: Devices{"intel.com/vf": {"a", "b"}},
		Networks: []Network{withResource("dflt"), withResource("neta")},
	}
	attachments, _, err := Make(in)
	require.NoError(t, err)
	assert.Equal(t, "a", attachments[0].DeviceID, "the default network shares the pool")
	assert.Equal(t, "b", attachments[1].DeviceID)
	assert.Equal(t, map[string]json.RawMessage{
		"deviceID": json.RawMessage(`"b"`), "CNIDeviceInfoFile": json.RawMessage(`"/d/cni/ns-neta-c_net1"`),
	}, attachments[1].CapabilityArgs)

	in.Networks = append(in.Networks, withResource("netb"))
	_, _, err = Make(in)
	require.ErrorContains(t, err, `network ns/netb: no device of resource "intel.com/vf" is left`)
	assert.Equal(t, []string{"a", "b"}, in.Devices["intel.com/vf"], "the input is not consumed")

	in.Networks = []Network{withResource("dflt"), network(t, config, `[{"name":"own","deviceID":"x"}]`), network(t, config, "bare")}
	in.AnyDevice = true
	attachments, _, err = Make(in)
	require.NoError(t, err)
	assert.Equal(t, json.RawMessage(`"x"`), attachments[1].CapabilityArgs["deviceID"])
	assert.NotContains(t, string(attachments[1].Plugins[0]), "pciBusID", "a pod's choice goes through the capability only")
	assert.Equal(t, map[string]json.RawMessage{"CNIDeviceInfoFile": json.RawMessage(`"/d/cni/ns-bare-c_net2"`)},
		attachments[2].CapabilityArgs, "the path is given without a device, too")
}

// A resource of which the pod has no device at all is one that nobody plugs devices
// for: its network gets none.
func TestResourceWithoutDevices(t *testing.T) {
	t.Parallel()
	n := network(t, `{"type":"cnv-bridge","bridge":"br1"}`, "vlan")
	n.Resource = "bridge.network.kubevirt.io/br1"
	attachments, warnings, err := Make(Input{Ifname: "eth0", Networks: []Network{network(t, `{"type":"d"}`, ""), n, n}})
	require.NoError(t, err)
	require.Len(t, warnings, 2)
	assert.Contains(t, warnings[0], "no device of resource")
	assert.Equal(t, `{"type":"cnv-bridge","bridge":"br1"}`, string(attachments[1].Plugins[0]))
	assert.Empty(t, attachments[1].DeviceID)
}

// A device of the node is used only if it was given to the pod, however the pod or
// its network spells it.
func TestDevicesOfOthers(t *testing.T) {
	t.Parallel()
	const config = `{"type":"sriov","capabilities":{"deviceID":true}`
	given := Devices{"intel.com/vf": {"0000:03:02.1"}, "other.com/vf": {"0000:03:02.2"}}
	withResource := func(n Network) Network { n.Resource = "intel.com/vf"; return n }
	for name, tc := range map[string]struct {
		network Network
		devices Devices
		device  string // "" for refused
	}{
		"selection, of another pod":     {network(t, config+`}`, `[{"name":"a","deviceID":"0000:03:02.5"}]`), given, ""},
		"selection, other spelling":     {network(t, config+`}`, `[{"name":"a","DEVICEID":"0000:03:02.5"}]`), given, ""},
		"selection, given":              {network(t, config+`}`, `[{"name":"a","deviceID":"0000:03:02.2"}]`), given, "0000:03:02.2"},
		"selection, nothing given":      {network(t, config+`}`, `[{"name":"a","deviceID":"0000:03:02.5"}]`), nil, ""},
		"network, resource":             {withResource(network(t, config+`,"DeviceID":"0000:03:02.5"}`, "a")), given, "0000:03:02.1"},
		"network, both keys":            {withResource(network(t, config+`,"PCIBusID":"0000:03:02.5","deviceId":"0000:03:02.5"}`, "a")), given, "0000:03:02.1"},
		"network, resource, none":       {withResource(network(t, config+`,"DeviceID":"0000:03:02.5"}`, "a")), nil, ""},
		"network, bus, resource, none":  {withResource(network(t, config+`,"pcibusid":"0000:03:02.5"}`, "a")), nil, ""},
		"network, list, resource, none": {withResource(network(t, `{"plugins":[{"type":"x"},{"type":"sriov","DEVICEID":"0000:03:02.5"}]}`, "a")), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := Input{Ifname: "eth0", Networks: []Network{network(t, `{"type":"d"}`, ""), tc.network}, Devices: tc.devices}
			attachments, _, err := Make(in)
			if tc.device == "" {
				require.ErrorContains(t, err, "not given to the pod")
				in.AnyDevice = true
				_, _, err = Make(in)
				require.NoError(t, err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, `"`+tc.device+`"`, string(attachments[1].CapabilityArgs["deviceID"]))
			for _, p := range attachments[1].Plugins {
				assert.NotContains(t, string(p), "0000:03:02.5")
			}
		})
	}
}

func TestAllowed(t *testing.T) {
	t.Parallel()
	global := []string{"shared"}
	for ns, ok := range map[string]bool{"ns": true, "shared": true, "default": false, "other": false} {
		err := Allowed(true, "ns", global, annotation.Selection{Namespace: ns, Name: "a"})
		assert.Equal(t, ok, err == nil, ns)
	}
	assert.NoError(t, Allowed(false, "ns", nil, annotation.Selection{Namespace: "other"}))
}

// A device-info file is named after the NAD; for the time of writing its name is longer.
func TestNamesOfDeviceInfoFiles(t *testing.T) {
	t.Parallel()
	for length, fits := range map[int]bool{100: true, 232: true, 233: false, 317: false} {
		n := network(t, `{"type":"x","name":"n","capabilities":{"CNIDeviceInfoFile":true}}`, "")
		n.NAD = "ns/" + strings.Repeat("a", length-len("ns/"))
		in := Input{ContainerID: "c1", Ifname: "eth0", Networks: []Network{n}, DeviceInfoDir: "/d", Lenient: true}
		_, _, err := Make(in)
		if fits {
			require.NoError(t, err, length)
			continue
		}
		require.ErrorContains(t, err, "network "+n.NAD+": namespace and name have")
		require.ErrorContains(t, err, "at most 232")
		in.AnyLength = true
		_, _, err = Make(in)
		require.NoError(t, err, "what is to be detached may have any name")
	}
}

// The two annotations of a pod are parsed apart.
func TestOneDefaultRoute(t *testing.T) {
	t.Parallel()
	dflt := network(t, `{"type":"a"}`, `[{"name":"dflt","default-route":["10.0.0.1"]}]`)
	for name, tc := range map[string]struct {
		others []string
		err    string
	}{
		"the default network's": {[]string{"a", "b"}, ""},
		"two of a family":       {[]string{"a", `[{"name":"b","default-route":["10.1.0.1"]}]`}, "networks ns/dflt and ns/b ask for it"},
		"one of each":           {[]string{`[{"name":"b","default-route":["fd00::1"]}]`}, "networks ns/dflt and ns/b ask for it"},
		"its own":               {[]string{`[{"name":"b","default-route":[]}]`}, "networks ns/dflt and ns/b ask for it"},
	} {
		networks := []Network{dflt}
		for _, selection := range tc.others {
			networks = append(networks, network(t, `{"type":"a"}`, selection))
		}
		_, _, err := Make(Input{Ifname: "eth0", Networks: networks, Lenient: true})
		if tc.err == "" {
			require.NoError(t, err, name)
		} else {
			require.ErrorContains(t, err, tc.err, name)
		}
	}
}
