// SPDX-License-Identifier: Apache-2.0

package annotation

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		value string
		want  []Selection
	}{
		"absent":     {"", nil},
		"empty list": {"[]", nil},
		"short": {" neta, ns2/netb@foo0 ", []Selection{
			{Namespace: "ns1", Name: "neta"}, {Namespace: "ns2", Name: "netb", Interface: "foo0"},
		}},
		"same network twice": {"a,a", []Selection{{Namespace: "ns1", Name: "a"}, {Namespace: "ns1", Name: "a"}}},
		"plain objects": {`[{"name":"a","namespace":""},{"name":"b","namespace":"ns2","interfaceRequest":"x","mac":null}]`, []Selection{
			{Namespace: "ns1", Name: "a"}, {Namespace: "ns2", Name: "b", Interface: "x"},
		}},
		"everything": {`[{"name":"a","interface":"net7","ips":["10.1.1.1/24","fd00::1"],"mac":"02:00:00:00:00:01",
			"infiniband-guid":"02:00:00:00:00:00:00:01","portMappings":[{"hostPort":1,"containerPort":65535},{"hostPort":2,"containerPort":3,"protocol":"SCTP","hostIP":"::1"}],
			"bandwidth":{"ingressRate":1000},"cni-args":{"n": 12345678901234567890},"default-route":["10.1.1.254","fd00::fe"],
			"deviceID":"0000:01:00.0","typo":1}]`, []Selection{{
			Namespace: "ns1", Name: "a", Interface: "net7", IPs: []string{"10.1.1.1/24", "fd00::1"}, MAC: "02:00:00:00:00:01",
			GUID: "02:00:00:00:00:00:00:01",
			PortMappings: []PortMapping{
				{HostPort: 1, ContainerPort: 65535, Protocol: "tcp"},
				{HostPort: 2, ContainerPort: 3, Protocol: "sctp", HostIP: "::1"},
			},
			Bandwidth: &Bandwidth{IngressRate: 1000, IngressBurst: defaultBurst},
			CNIArgs:   json.RawMessage(`{"n":12345678901234567890}`), DeviceID: "0000:01:00.0",
			DefaultRoute: &DefaultRoute{Gateways: []netip.Addr{netip.MustParseAddr("10.1.1.254"), netip.MustParseAddr("fd00::fe")}},
			Ignored:      []string{"typo"},
		}}},
		"nothing asked for": {`[{"name":"a","ips":[],"portMappings":[],"bandwidth":{}},{"name":"b","bandwidth":{"ingressRate":0,"ingressBurst":0,"egressRate":5}}]`, []Selection{
			{Namespace: "ns1", Name: "a"}, {Namespace: "ns1", Name: "b", Bandwidth: &Bandwidth{EgressRate: 5, EgressBurst: defaultBurst}},
		}},
		"other spellings": {`[{"Name":"a","MAC":"02:00:00:00:00:01","IPs":["10.0.0.1"],"PortMappings":[{"HostPort":1,"ContainerPort":2}],"DeviceId":"x"}]`, []Selection{
			{Namespace: "ns1", Name: "a", MAC: "02:00:00:00:00:01", IPs: []string{"10.0.0.1"}, DeviceID: "x",
				PortMappings: []PortMapping{{HostPort: 1, ContainerPort: 2, Protocol: "tcp"}}},
		}},
		"names of objects": {`net.vlan100,ns2/a.b-c.d@x`, []Selection{
			{Namespace: "ns1", Name: "net.vlan100"}, {Namespace: "ns2", Name: "a.b-c.d", Interface: "x"},
		}},
		"keep own default route": {`[{"name":"a","default-route":[]}]`, []Selection{
			{Namespace: "ns1", Name: "a", DefaultRoute: &DefaultRoute{}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(tc.value, "ns1", MaxSelections)
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestParseNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	element := func(members string) string { return `[{"name":"a",` + members + `}]` }
	for value, want := range map[string]string{
		"  ":                           "element 1: empty",
		"neta,":                        "element 2: empty",
		"ns/":                          "name: missing",
		"/a":                           "namespace: missing",
		"a/b/c":                        `name "b/c"`,
		"a..b":                         `name "a..b": want the name of an object`,
		"a_b":                          `name "a_b"`,
		"neta@x@y":                     "more than one '@'",
		"neta@x%d":                     "no interface name",
		"A":                            `name "A"`,
		"-a":                           `name "-a"`,
		"a@":                           "no interface name",
		"a@a/b":                        "no interface name",
		"a@sixteen-bytes-xx":           "no interface name",
		strings.Repeat("x", 254):       "want the name of an object",
		"a.b/x":                        `namespace "a.b": want a DNS label`,
		strings.Repeat("a,", 64) + "a": "65 networks are more than the 64",
		"[" + strings.Repeat(`{"name":"a"},`, 64) + `{"name":"a"}]`: "65 networks are more than the 64",
		strings.Repeat(`[`, 1<<10):                                  "nested deeper than 32",
		strings.Repeat("x", 1<<20):                                  "bytes are more than",
		`{}`:                                                        "want a JSON list",
		`"x"`:                                                       "want a JSON list",
		`[null]`:                                                    "element 1: not a JSON object",
		`["a"]`:                                                     "element 1: not a JSON object",
		`[{}]`:                                                      "name: missing",
		`[{"name":7}]`:                                              "name: ",
		`[{"name":"a/b"}]`:                                          `name "a/b"`,
		`[{"name":"..","namespace":".."}]`:                          `name ".."`,
		`[{"name":"a","namespace":".."}]`:                           `namespace ".."`,
		element(`"mac":"02:00:00:00:00:01","MAC":"02:00:00:00:00:02"`): `"mac" and "MAC" are two spellings of one key`,
		element(`"Name":"b"`):                                                                  `"name" and "Name" are two spellings`,
		element(`"deviceID":"a","device\u0049d":"b"`):                                          "are two spellings",
		element(`"ipſ":["10.0.0.1"],"ips":["10.0.0.2"]`):                                       "are two spellings", // folds to s
		element(`"interface":"x%d"`):                                                           "no interface name",
		element(`"cni-args":` + strings.Repeat(`{"a":`, 64) + `1` + strings.Repeat(`}`, 64)):   "nested deeper",
		`[{"name":"a","namespace":"A"}]`:                                                       `namespace "A"`,
		element(`"interface":"a/b"`):                                                           "interface: ",
		element(`"interface":"."`):                                                             "interface: ",
		element(`"interface":"a b"`):                                                           "interface: ",
		element(`"interface":"a:b"`):                                                           "interface: ",
		element(`"ips":["10.0.0.300"]`):                                                        `ips: "10.0.0.300"`,
		element(`"ips":["10.0.0.1/33"]`):                                                       "ips: ",
		element(`"ips":["fe80::1%eth0"]`):                                                      "ips: ",
		element(`"ips":"10.0.0.1"`):                                                            "ips: ",
		element(`"mac":"zz"`):                                                                  `mac: "zz" is no address of 6 bytes`,
		element(`"mac":"02:00:00:00:00:00:00:01"`):                                             "mac: ",
		element(`"infiniband-guid":"02:00:00:00:00:01"`):                                       "infiniband-guid: ",
		element(`"portMappings":[{"hostPort":0,"containerPort":1}]`):                           "hostPort 0: want 1 to 65535",
		element(`"portMappings":[{"hostPort":1,"containerPort":70000}]`):                       "containerPort 70000",
		element(`"portMappings":[{"hostPort":1,"containerPort":1,"protocol":"icmp"}]`):         `protocol "icmp"`,
		element(`"portMappings":[{"hostPort":1,"containerPort":1,"hostIP":"x"}]`):              `hostIP "x"`,
		element(`"portMappings":[{"hostPort":1,"containerPort":1,"hostIP":"fe80::1%e"}]`):      `hostIP "fe80::1%e"`,
		element(`"bandwidth":{"egressRate":-1}`):                                               "egressRate -1",
		element(`"bandwidth":{"ingressRate":1.5}`):                                             "bandwidth: ",
		element(`"bandwidth":{"egressBurst":1}`):                                               "egressBurst needs egressRate",
		element(`"cni-args":"x"`):                                                              "cni-args: not a JSON object",
		element(`"default-route":["x"]`):                                                       `default-route: "x" is no gateway`,
		element(`"default-route":["10.0.0.1","10.0.0.2"]`):                                     "of one family",
		element(`"default-route":["fe80::1%e"]`):                                               "zone",
		element(`"ipam-claim-reference":"c","ips":["10.0.0.1"]`):                               "excludes ips",
		`[{"name":"a","default-route":["10.0.0.1"]},{"name":"b","default-route":["fd00::1"]}]`: "in elements 1 and 2",
	} {
		selections, err := Parse(value, "ns1", MaxSelections)
		assert.ErrorContains(t, err, want, value)
		assert.Nil(t, selections, value)
	}
}

// What goes into an error, an event and the kubelet's log at every try is short,
// however much the user wrote.
func TestErrorsAreShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x_", 50000)
	many := strings.Repeat(`"10.0.0.300",`, 10000)
	for name, value := range map[string]string{
		"short": long, "interface": "a@" + long, "namespace": long + "/a", "keys": `[{"name":"a","` + long + `":1,"mac":"zz"}]`,
		"mac": `[{"name":"a","mac":"` + long + `"}]`, "ips": `[{"name":"a","ips":[` + many + `"x"]}]`, "string": `"` + long + `"`,
		"elements": `["` + long + `"]`, "gateway": `[{"name":"a","default-route":[` + many + `"x"]}]`,
		"mappings": `[{"name":"a","portMappings":[` + strings.Repeat(`{},`, 10000) + `{}]}]`,
	} {
		_, err := Parse(value, "ns1", MaxSelections)
		require.Error(t, err, name)
		assert.Less(t, len(err.Error()), 1200, name)
	}
	selections, err := Parse(`[{"name":"a","`+long+`":1`+strings.Repeat(`,"k":1`, 10000)+`}]`, "ns1", MaxSelections)
	require.NoError(t, err)
	assert.Len(t, selections[0].Ignored, 5)
}

// Names of networks in files are not those of objects.
func TestParseFileRef(t *testing.T) {
	t.Parallel()
	for item, want := range map[string]Selection{
		"my_Net.1":    {Namespace: "kube-system", Name: "my_Net.1"},
		"ns/a.b@x":    {Namespace: "ns", Name: "a.b", Interface: "x"},
		"My_Net@net9": {Namespace: "kube-system", Name: "My_Net", Interface: "net9"},
	} {
		s, err := ParseFileRef(item, "kube-system")
		require.NoError(t, err)
		assert.Equal(t, want, s)
	}
	s, _ := ParseFileRef("my_Net.1", "kube-system")
	assert.False(t, s.IsObject())
	for _, item := range []string{"", "_a", "a b", "..", "a@x@y", "a\x00"} {
		_, err := ParseFileRef(item, "kube-system")
		assert.Error(t, err, "%q", item)
	}
}

func TestParseOne(t *testing.T) {
	t.Parallel()
	s, err := ParseOne("neta", "kube-system")
	require.NoError(t, err)
	assert.Equal(t, "kube-system/neta", s.Ref())
	for _, value := range []string{"a,b", "[]", ""} {
		_, err = ParseOne(value, "ns")
		assert.ErrorContains(t, err, "exactly one", value)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"a", "ns/a@b,c", "a,", `[]`, `[null]`, `{}`, `[{"name":"a","ips":["10.0.0.1/8"],"mac":"02:00:00:00:00:01"}]`,
		`[{"name":"a","portMappings":[{"hostPort":1,"containerPort":2,"protocol":"UDP"}],"default-route":["::1"]}]`,
		`[{"name":"a","bandwidth":{"ingressRate":1,"ingressBurst":2},"cni-args":{"a":{}}}]`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		selections, err := Parse(value, "pod-ns", MaxSelections)
		if err != nil {
			require.Nil(t, selections)
			return
		}
		for _, s := range selections {
			ref := s.Ref()
			if s.Interface != "" {
				ref += "@" + s.Interface
			}
			if strings.ContainsAny(ref, `[{",`) || strings.TrimSpace(ref) != ref {
				continue // an interface name that only the JSON form can express
			}
			again, err := ParseOne(ref, "elsewhere")
			require.NoError(t, err, "an accepted reference parses again")
			require.Equal(t, ref, again.Ref()+strings.TrimPrefix(ref, again.Ref()))
		}
	})
}
