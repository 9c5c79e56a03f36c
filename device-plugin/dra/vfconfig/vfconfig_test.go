// SPDX-License-Identifier: Apache-2.0

package vfconfig_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/dra/vfconfig"
	"github.com/stretchr/testify/require"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

const driver = "sriovnetwork.k8snetworkplumbingwg.io"

// parameters makes an object of the right kind with further members.
func parameters(members string) string {
	out := `{"apiVersion": "` + vfconfig.APIVersion + `", "kind": "` + vfconfig.Kind + `"`
	if members != "" {
		out += ", " + members
	}
	return out + "}"
}

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := vfconfig.Parse([]byte(parameters(`"driver": "vfio-pci", "ifName": "net1", "netAttachDefName": "blue.example",
		"netAttachDefNamespace": "team", "addVhostMount": true`)))
	require.NoError(t, err)
	require.Equal(t, vfconfig.Config{
		Driver: "vfio-pci", IfName: "net1", NetAttachDefName: "blue.example", NetAttachDefNamespace: "team", AddVhostMount: new(true),
	}, got)
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ raw, want string }{
		"nothing":              {"", "want an object of kind VfConfig"},
		"null":                 {"null", `"null"; want an object`},
		"list":                 {"[]", "want an object"},
		"cut":                  {parameters("")[:20], "not JSON"},
		"another kind":         {`{"apiVersion": "gpu.example.com/v1", "kind": "GpuConfig", "sharing": 1}`, `apiVersion "gpu.example.com/v1"; want`},
		"kind alone":           {`{"apiVersion": "` + vfconfig.APIVersion + `", "kind": "PfConfig"}`, `kind "PfConfig"`},
		"unknown key":          {parameters(`"vlan": 5`), `unknown field "vlan"; known keys are driver`},
		"another spelling":     {parameters(`"Driver": "vfio-pci"`), `unknown field "Driver"`},
		"twice":                {parameters(`"driver": "vfio-pci", "driver": "uio"`), `duplicate field "driver"`},
		"a list for a name":    {parameters(`"ifName": ["net1"]`), "ifName: want a string, not array"},
		"a string for a bool":  {parameters(`"addVhostMount": "yes"`), "addVhostMount: want a bool, not string"},
		"long interface":       {parameters(`"ifName": "net1234567890123"`), `ifName "net1234567890123": an interface name has at most 15 bytes`},
		"interface pattern":    {parameters(`"ifName": "net%d"`), `ifName "net%d"`},
		"interface path":       {parameters(`"ifName": "../net"`), `ifName "../net"`},
		"interface of dots":    {parameters(`"ifName": ".."`), `ifName ".."`},
		"driver path":          {parameters(`"driver": "../vfio-pci"`), `driver "../vfio-pci": want the name of a kernel driver`},
		"network path":         {parameters(`"netAttachDefName": "../secrets"`), `netAttachDefName "../secrets"`},
		"namespace":            {parameters(`"netAttachDefName": "a", "netAttachDefNamespace": "Team"`), `netAttachDefNamespace "Team"`},
		"too large":            {parameters(`"driver": "` + strings.Repeat("x", 10<<10) + `"`), "at most 10240 are read"},
		"nested to the limit":  {parameters(`"driver": ` + strings.Repeat("[", 4000) + strings.Repeat("]", 4000)), "driver: want a string, not array"},
		"unknown, nested deep": {parameters(`"x": ` + strings.Repeat(`{"x":`, 1500) + "1" + strings.Repeat("}", 1500)), `unknown field "x"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := vfconfig.Parse([]byte(tc.raw))
			require.ErrorContains(t, err, tc.want)
			require.Less(t, len(err.Error()), 400)
			require.Zero(t, got)
		})
	}
}

// claimWith makes an allocated claim with parameters: source, requests, JSON.
func claimWith(config ...resourceapi.DeviceAllocationConfiguration) *resourceapi.ResourceClaim {
	claim := &resourceapi.ResourceClaim{}
	claim.Namespace, claim.Name = "team", "vf"
	claim.Status.Allocation = &resourceapi.AllocationResult{Devices: resourceapi.DeviceAllocationResult{Config: config}}
	return claim
}

func config(source resourceapi.AllocationConfigSource, of, raw string, requests ...string) resourceapi.DeviceAllocationConfiguration {
	return resourceapi.DeviceAllocationConfiguration{
		Source: source, Requests: requests,
		DeviceConfiguration: resourceapi.DeviceConfiguration{Opaque: &resourceapi.OpaqueDeviceConfiguration{
			Driver: of, Parameters: runtime.RawExtension{Raw: []byte(raw)},
		}},
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	class, mine := resourceapi.AllocationConfigSourceClass, resourceapi.AllocationConfigSourceClaim
	claim := claimWith(
		config(class, driver, parameters(`"driver": "vfio-pci", "netAttachDefName": "blue", "addVhostMount": true`)),
		config(mine, driver, parameters(`"driver": "default", "addVhostMount": false`), "a"),
		config(mine, driver, parameters(`"ifName": "net7"`), "c/big"),
		config(mine, driver, parameters(`"addVhostMount": null`), "c"),
		config(mine, "gpu.example.com", `{"anything": true}`),
	)
	for request, want := range map[string]vfconfig.Config{
		"a":       {Driver: "default", NetAttachDefName: "blue", AddVhostMount: new(false)}, // the claim wins, field by field
		"b":       {Driver: "vfio-pci", NetAttachDefName: "blue", AddVhostMount: new(true)},
		"c/big":   {Driver: "vfio-pci", NetAttachDefName: "blue", IfName: "net7", AddVhostMount: new(true)},
		"c/small": {Driver: "vfio-pci", NetAttachDefName: "blue", AddVhostMount: new(true)},
	} {
		got, err := vfconfig.Of(claim, driver, request)
		require.NoError(t, err)
		require.Equal(t, want, got, request)
	}
	_, err := vfconfig.Of(claimWith(config(class, driver, parameters(`"drivr": "x"`))), driver, "a")
	require.ErrorContains(t, err, `request a, parameters of the DeviceClass: unknown field "drivr"`)
	_, err = vfconfig.Of(claimWith(config(mine, driver, parameters(`"netAttachDefNamespace": "x"`))), driver, "a")
	require.ErrorContains(t, err, "without netAttachDefName")
	got, err := vfconfig.Of(&resourceapi.ResourceClaim{}, driver, "a")
	require.NoError(t, err)
	require.Zero(t, got)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(parameters(`"driver": "vfio-pci"`)))
	f.Add([]byte(parameters(`"driver": null`)))
	f.Add([]byte(`{"apiVersion": 1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := vfconfig.Parse(raw)
		if err != nil {
			require.Zero(t, got, "value or error, not both")
			return
		}
		// What was accepted is read the same when written anew.
		text, err := json.Marshal(struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			vfconfig.Config
		}{vfconfig.APIVersion, vfconfig.Kind, got})
		require.NoError(t, err)
		again, err := vfconfig.Parse(text)
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}
