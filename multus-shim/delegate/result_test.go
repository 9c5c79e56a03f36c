// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"encoding/json"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestResultRefusesNullElements(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		for members, want := range map[string]string{
			`"ips":[null]`:                               "ips, element 1: null",
			`"IPS":[null]`:                               "IPS, element 1: null",
			`"interfaces":[{"name":"a"},null]`:           "interfaces, element 2: null",
			`"routes":[null]`:                            "routes, element 1: null",
			`"ip4":{"ip":"10.0.0.1/24","routes":[null]}`: "ip4: routes, element 1: null",
			`"ips":[{"address":"10.0.0.1/24"}],"ips":[null],"ips":[]`: "ips, element 1: null",
		} {
			_, err := Attachment{CNIVersion: version}.result([]byte(`{` + members + `}`))
			assert.ErrorContains(t, err, want, version)
		}
	}
}

// What result lets through can be converted to every version without a panic.
func FuzzResult(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"ips":[null]}`, `{"ips":[{"address":"10.0.0.1/24","interface":0,"version":"4"}],"interfaces":[{"name":"a","sandbox":"s"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.254"}]}`,
		`{"ip4":{"ip":"10.0.0.1/24","gateway":"10.0.0.254","routes":[{"dst":"0.0.0.0/0"}]},"dns":{"nameservers":["1.1.1.1"]}}`,
		`{"interfaces":[null],"Ips":null,"ROUTES":[{}]}`, `{"cniVersion":"0.3.1","ips":[{}]}`, `{"dns":null,"ip6":null}`,
	} {
		f.Add([]byte(seed))
	}
	versions := []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, version := range versions {
			raw, err := Attachment{CNIVersion: version}.result(data)
			if err != nil {
				continue
			}
			var said struct{ CNIVersion string }
			require.NoError(t, json.Unmarshal(raw, &said))
			parsed, err := create.Create(said.CNIVersion, raw)
			require.NoError(t, err)
			_, _ = types100.NewResultFromResult(parsed)
			for _, target := range versions {
				_, _ = parsed.GetAsVersion(target)
			}
		}
	})
}
