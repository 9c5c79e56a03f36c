// SPDX-License-Identifier: Apache-2.0

package claim

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/multus-shim/kube"
)

// allocated is a claim ns1/c with the given results and configuration, in JSON.
func allocated(t *testing.T, results, config string) *kube.Claim {
	t.Helper()
	var c kube.Claim
	require.NoError(t, json.Unmarshal([]byte(`{"metadata":{"namespace":"ns1","name":"c"},"status":{"allocation":{"devices":{"results":[`+results+`],"config":[`+config+`]}}}}`), &c))
	return &c
}

// vf is a result; opaque is one element of the configuration.
func vf(request, device string) string {
	return `{"request":"` + request + `","driver":"d","pool":"node-a","device":"` + device + `"}`
}

func opaque(source, requests, members string) string {
	return `{"source":"` + source + `","requests":[` + requests + `],"opaque":{"driver":"d","parameters":{"apiVersion":"` + group + "/" + version + `","kind":"` + kind + `"` + members + `}}}`
}

func TestNetworks(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		results, config string
		want            []string // "request device namespace/name@interface"
	}{
		"nothing asked":        {vf("r", "a"), "", nil},
		"not allocated":        {"", opaque("FromClaim", "", `,"netAttachDefName":"blue"`), nil},
		"for all":              {vf("r", "a") + "," + vf("s", "b"), opaque("FromClaim", "", `,"netAttachDefName":"blue"`), []string{"r a ns1/blue@", "s b ns1/blue@"}},
		"for one":              {vf("r", "a") + "," + vf("s", "b"), opaque("FromClaim", `"s"`, `,"netAttachDefName":"blue","ifName":"data0"`), []string{"s b ns1/blue@data0"}},
		"two of a request":     {vf("r", "a") + "," + vf("r", "b"), opaque("FromClaim", `"r"`, `,"netAttachDefName":"blue"`), []string{"r a ns1/blue@", "r b ns1/blue@"}},
		"subrequest":           {vf("r/large", "a"), opaque("FromClaim", `"r"`, `,"netAttachDefName":"blue"`) + "," + opaque("FromClaim", `"r/small"`, `,"netAttachDefName":"red"`), []string{"r/large a ns1/blue@"}},
		"subrequest of a name": {vf("r/large", "a"), opaque("FromClaim", `"r"`, `,"netAttachDefName":"blue"`) + "," + opaque("FromClaim", `"r/large"`, `,"netAttachDefName":"red"`), []string{"r/large a ns1/red@"}},
		"namespace":            {vf("r", "a"), opaque("FromClaim", "", `,"netAttachDefName":"blue.v1","netAttachDefNamespace":"shared"`), []string{"r a shared/blue.v1@"}},
		"claim over class, by field": {vf("r", "a"), opaque("FromClass", "", `,"netAttachDefName":"blue","netAttachDefNamespace":"shared","ifName":"x"`) + "," + opaque("FromClaim", "", `,"netAttachDefName":"red","ifName":""`),
			[]string{"r a shared/red@x"}},
		"admin access":   {strings.Replace(vf("r", "a"), "{", `{"adminAccess":true,`, 1), opaque("FromClaim", "", `,"netAttachDefName":"blue"`), nil},
		"another driver": {strings.Replace(vf("r", "a"), `"d"`, `"e"`, 1), opaque("FromClaim", "", `,"netAttachDefName":"blue"`), nil},
		"another kind":   {vf("r", "a"), strings.Replace(opaque("FromClaim", "", `,"netAttachDefName":"blue"`), kind, "GpuConfig", 1), nil},
		"another group":  {vf("r", "a"), strings.Replace(opaque("FromClaim", "", `,"netAttachDefName":"blue"`), group, "example.com", 1), nil},
		"no document":    {vf("r", "a"), `{"opaque":{"driver":"d","parameters":[1]}},{"opaque":{"driver":"d"}},{}`, nil},
		"other keys":     {vf("r", "a"), opaque("FromClaim", "", `,"driver":"vfio-pci","addVhostMount":true,"more":{}`), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			networks, err := Networks(allocated(t, tc.results, tc.config))
			require.NoError(t, err)
			var got []string
			for _, n := range networks {
				assert.Equal(t, "ns1/c", n.Claim)
				got = append(got, n.Request+" "+n.Device.Device+" "+n.Selection.Ref()+"@"+n.Selection.Interface)
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestNetworksNameWhatIsWrong(t *testing.T) {
	t.Parallel()
	for members, want := range map[string]string{
		`,"netAttachDefName":"Blue"`:                            `name "Blue"`,
		`,"netAttachDefName":"../pods"`:                         `name "../pods"`,
		`,"netAttachDefName":"a","netAttachDefNamespace":"a/b"`: `namespace "a/b"`,
		`,"netAttachDefNamespace":"a"`:                          `netAttachDefNamespace "a" without netAttachDefName`,
		`,"netAttachDefName":"a","ifName":"x%d"`:                `"x%d" is no interface name`,
		`,"netAttachDefName":"a","ifName":"sixteen-letters-"`:   "no interface name",
		`,"netAttachDefName":7`:                                 "netAttachDefName 7: want a string",
		`,"NetAttachDefName":"a"`:                               `key "NetAttachDefName": want netAttachDefName once`,
		`,"netAttachDefName":"a","netAttachDefName":"b"`:        "want netAttachDefName once",
		`,"netAttachDefName":"a","iFNAME":"b"`:                  "want ifName once",
		`,"netAttachDefName":"a","x":` + strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40): "nested deeper",
	} {
		_, err := Networks(allocated(t, vf("r", "a"), opaque("FromClaim", "", members)))
		if assert.ErrorContains(t, err, want, members) {
			assert.ErrorContains(t, err, "claim ns1/c, request r: ")
		}
	}
	_, err := Networks(allocated(t, vf("r", "a"), strings.Replace(opaque("FromClaim", "", `,"netAttachDefName":"a"`), version, "v2", 1)))
	require.ErrorContains(t, err, group+"/v2")
	_, err = Networks(allocated(t, vf("r", "a")+","+vf("r", "b"), opaque("FromClaim", "", `,"netAttachDefName":"a","ifName":"x"`)))
	require.ErrorContains(t, err, `ifName "x" is already that of a device of request r`)
}
