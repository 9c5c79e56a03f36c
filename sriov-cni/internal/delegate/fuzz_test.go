// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// What an IPAM plugin prints is a result without holes, or an error.
func FuzzParse(f *testing.F) {
	for _, out := range []string{
		`{"cniVersion":"1.0.0","ips":[{"address":"192.0.2.7/24","gateway":"192.0.2.1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}}`,
		`{"cniVersion":"0.2.0","ip4":{"ip":"192.0.2.7/24","routes":[{"dst":"0.0.0.0/0"}]}}`,
		`{"ips":[null]}`, `{"cniVersion":"0.3.1","ips":[null]}`, `{"cniVersion":"0.4.0","routes":[null],"interfaces":[null]}`,
		`{"cniVersion":"0.1.0","ip4":{"routes":[null]}}`, `{"cniVersion":"1.0.0","ips":[{}]}`, `null`, `[]`, `{"ips":null,"routes":{}}`,
		`{"IPS":[null]}`, `{"ip4":null,"ip6":{"ip":null,"routes":null}}`, `{"Ip6":{"routes":[null]}}`,
	} {
		f.Add([]byte(`{"cniVersion":"1.0.0"}`), []byte(out))
		f.Add([]byte(`{"cniVersion":"0.2.0"}`), []byte(out))
	}
	f.Fuzz(func(t *testing.T, conf, out []byte) {
		result, err := Parse(conf, out)
		if err != nil {
			require.Nil(t, result)
			return
		}
		for _, ip := range result.IPs {
			require.NotNil(t, ip)
		}
		for _, r := range result.Routes {
			require.NotNil(t, r)
		}
		for _, i := range result.Interfaces {
			require.NotNil(t, i)
		}
		for _, version := range []string{"0.1.0", "0.2.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
			if as, err := result.GetAsVersion(version); err == nil {
				_, _ = json.Marshal(as)
			}
		}
	})
}
