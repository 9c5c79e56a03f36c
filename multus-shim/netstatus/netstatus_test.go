// SPDX-License-Identifier: Apache-2.0

package netstatus

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBuild(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		result string
		want   string
	}{
		"empty result": {`{"cniVersion":"1.0.0"}`, `[{"name":"ns/n","default":true,"dns":{}}]`},
		"addresses without an interface": {
			`{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}`,
			`[{"name":"ns/n","ips":["10.0.0.2"],"default":true,"dns":{}}]`,
		},
		"host end first": {
			`{"cniVersion":"0.4.0","interfaces":[{"name":"veth1","mac":"aa:aa:aa:aa:aa:aa"},{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/n"}],
			  "ips":[{"version":"4","interface":1,"address":"10.0.0.2/24"},{"version":"4","interface":0,"address":"10.0.0.1/24"},{"version":"6","address":"fd00::2/64"}]}`,
			`[{"name":"ns/n","interface":"eth0","ips":["10.0.0.2","fd00::2"],"mac":"02:00:00:00:00:01","default":true,"dns":{}}]`,
		},
		"two in the pod": {
			`{"cniVersion":"1.1.0","interfaces":[{"name":"a","sandbox":"/n"},{"name":"b","sandbox":"/n","mtu":9000}],
			  "ips":[{"interface":0,"address":"10.0.0.2/24"},{"interface":1,"address":"10.1.0.2/24","gateway":"10.1.0.1"}],
			  "routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"}],"dns":{"nameservers":["10.0.0.53"],"domain":"d","search":["s"],"options":["o"]}}`,
			`[{"name":"ns/n","interface":"a","ips":["10.0.0.2"],"default":false,"dns":{"nameservers":["10.0.0.53"],"domain":"d","search":["s"],"options":["o"]}},
			  {"name":"ns/n","interface":"b","ips":["10.1.0.2"],"mtu":9000,"default":true,"dns":{"nameservers":["10.0.0.53"],"domain":"d","search":["s"],"options":["o"]},"gateway":["10.1.0.1"]}]`,
		},
		"version 0.2.0": {
			`{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/24","gateway":"10.0.0.1","routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.1"}]},"dns":{"domain":"d"}}`,
			`[{"name":"ns/n","ips":["10.0.0.2"],"default":true,"dns":{"domain":"d"},"gateway":["10.0.0.1"]}]`,
		},
		"what is no default route": {
			`{"cniVersion":"1.0.0","routes":[{"dst":"0.0.0.0/1","gw":"10.0.0.1"},{"dst":"0.0.0.0/0"},{"dst":"::/0","gw":"fd00::1"}]}`,
			`[{"name":"ns/n","default":true,"dns":{},"gateway":["fd00::1"]}]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entries, err := Build(Attachment{Name: "ns/n", Default: true, Result: json.RawMessage(tc.result)})
			require.NoError(t, err)
			text, err := Marshal(entries)
			require.NoError(t, err)
			assert.JSONEq(t, tc.want, text)
		})
	}
}

func TestExtras(t *testing.T) {
	t.Parallel()
	entries, err := Build(Attachment{
		Name: "ns/n", Result: json.RawMessage(`{"cniVersion":"1.0.0"}`),
		DeviceInfo:   json.RawMessage(`{"type":"pci","version":"1.1.0"}`),
		DefaultRoute: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
	})
	require.NoError(t, err)
	want := []Entry{{Name: "ns/n", DeviceInfo: json.RawMessage(`{"type":"pci","version":"1.1.0"}`), DefaultRoute: []string{"10.0.0.1"}}}
	assert.Empty(t, cmp.Diff(want, entries))
	_, err = Build(Attachment{Name: "ns/n", Result: json.RawMessage(`{"cniVersion":"9.9.9"}`)})
	require.ErrorContains(t, err, "network ns/n")
}
