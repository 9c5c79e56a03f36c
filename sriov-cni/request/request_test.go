// SPDX-License-Identifier: Apache-2.0

package request

import (
	"net"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const minimal = `"cniVersion":"1.0.0","name":"net-a","type":"sriov","deviceID":"0000:af:06.0"`

func TestParseRequest(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		conf, args string
		want       func(r *Request)
	}{
		"minimal":                    {want: func(*Request) {}},
		"vlan":                       {conf: `"vlan":100`, want: func(r *Request) { r.Admin.VLAN = &vfstate.VLAN{ID: 100, Proto: vfstate.Proto8021Q} }},
		"vlan 0 is not no vlan":      {conf: `"vlan":0,"vlanQoS":0,"vlanProto":"802.1Q"`, want: func(r *Request) { r.Admin.VLAN = &vfstate.VLAN{Proto: vfstate.Proto8021Q} }},
		"vlan of a provider":         {conf: `"vlan":4094,"vlanQoS":7,"vlanProto":"802.1AD"`, want: func(r *Request) { r.Admin.VLAN = &vfstate.VLAN{ID: 4094, QoS: 7, Proto: vfstate.Proto8021AD} }},
		"switches":                   {conf: `"spoofchk":"off","trust":"on"`, want: func(r *Request) { r.Admin.SpoofCheck, r.Admin.Trust = vfstate.Off, vfstate.On }},
		"link state":                 {conf: `"link_state":"disable"`, want: func(r *Request) { r.Admin.LinkState = vfstate.LinkDisable }},
		"rates":                      {conf: `"min_tx_rate":0,"max_tx_rate":100`, want: func(r *Request) { r.MinRate, r.MaxRate = new(uint32(0)), new(uint32(100)) }},
		"no upper bound":             {conf: `"min_tx_rate":50,"max_tx_rate":0`, want: func(r *Request) { r.MinRate, r.MaxRate = new(uint32(50)), new(uint32(0)) }},
		"mtu":                        {conf: `"mtu":9000`, want: func(r *Request) { r.MTU = 9000 }},
		"mac in capitals":            {conf: `"mac":"CA-FE-C0-FF-EE-01"`, want: withMAC("ca:fe:c0:ff:ee:01")},
		"mac of CNI_ARGS":            {conf: `"mac":"ca:fe:c0:ff:ee:01"`, args: "IgnoreUnknown=1;MAC=ca:fe:c0:ff:ee:02;A=b", want: withMAC("ca:fe:c0:ff:ee:02")},
		"mac of the runtime":         {conf: `"mac":"zz","runtimeConfig":{"mac":"ca:fe:c0:ff:ee:03"}`, args: "MAC=ca:fe:c0:ff:ee:02", want: withMAC("ca:fe:c0:ff:ee:03")},
		"typing errors are reported": {conf: `"max-tx-rate":3,"ipam":{},"args":{},"cni.dev/x":1`, want: func(r *Request) { r.Unknown = []string{"max-tx-rate"} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := "{" + strings.TrimSuffix(minimal+","+tc.conf, ",") + "}"
			got, err := Parse([]byte(text), tc.args)
			require.NoError(t, err)
			want := Request{Conf: got.Conf, Stdin: []byte(text), Device: libsriov.Address{Bus: 0xaf, Device: 6}}
			tc.want(&want)
			assert.Equal(t, want, got)
		})
	}
}

func withMAC(s string) func(*Request) {
	return func(r *Request) {
		mac, err := net.ParseMAC(s)
		if err != nil {
			panic(err)
		}
		r.MAC, r.Admin.MAC = mac, mac
	}
}

// Each refusal names the field and the value.
func TestParseRequestRefuses(t *testing.T) {
	t.Parallel()
	for conf, fragments := range map[string][]string{
		`"vlan":-1`:                                   {"vlan -1", "0 (untagged) to 4094"},
		`"vlan":4095`:                                 {"vlan 4095"},
		`"vlan":"100"`:                                {"vlan", "string", "int"},
		`"vlan":1.5`:                                  {"vlan"},
		`"vlan":100,"vlanQoS":8`:                      {"vlanQoS 8", "0 to 7"},
		`"vlanQoS":1`:                                 {"vlanQoS 1", "needs vlan"},
		`"vlan":0,"vlanQoS":1`:                        {"vlanQoS 1"},
		`"vlanProto":"802.1q"`:                        {"vlanProto", "needs vlan"},
		`"vlan":1,"vlanProto":"802"`:                  {`vlanProto "802"`, "802.1ad"},
		`"vlan":0,"vlanProto":"802.1ad"`:              {"vlanProto"},
		`"mac":"zz"`:                                  {`mac "zz"`},
		`"mac":"01:00:5e:00:00:01"`:                   {"mac", "multicast"},
		`"mac":"00:00:00:00:00:00"`:                   {"mac", "zero"},
		`"mac":"00:00:00:00:00:00:00:01"`:             {"mac", "Ethernet"},
		`"spoofchk":"ON"`:                             {`spoofchk "ON"`, `"on" or "off"`},
		`"spoofchk":true`:                             {"spoofchk", "bool"},
		`"trust":"true"`:                              {`trust "true"`},
		`"link_state":"Enable"`:                       {"invalid link_state", "Enable"},
		`"min_tx_rate":200,"max_tx_rate":100`:         {"min_tx_rate 200", "100"},
		`"max_tx_rate":-5`:                            {"max_tx_rate -5"},
		`"mtu":0`:                                     {"mtu 0"},
		`"mtu":70000`:                                 {"mtu 70000"},
		`"deviceID":""`:                               {"VF pci addr is required"},
		`"deviceID":"0000:AF:06.0"`:                   {"deviceID", "0000:af:06.0"},
		`"deviceID":"af:06.0"`:                        {"deviceID", "0000:af:06.0"},
		`"deviceID":"../.."`:                          {"deviceID", "../.."},
		`"deviceID":5`:                                {"deviceID"},
		`"trust":"x","spoofchk":"y","link_state":"z"`: {"trust", "spoofchk", "link_state"}, // all at once
	} {
		t.Run(conf, func(t *testing.T) {
			t.Parallel()
			others := minimal
			if strings.HasPrefix(conf, `"deviceID"`) {
				others = strings.Replace(minimal, "deviceID", "x", 1)
			}
			_, err := Parse([]byte("{"+others+","+conf+"}"), "")
			var f *cnierr.Error
			require.ErrorAs(t, err, &f)
			assert.Equal(t, types.ErrInvalidNetworkConfig, f.Code)
			for _, fragment := range fragments {
				assert.Contains(t, err.Error(), fragment)
			}
		})
	}
	_, err := Parse([]byte("{"+minimal+"}"), "FOO=bar")
	assert.ErrorContains(t, err, "FOO=bar")
}

func TestDeviceFallbacks(t *testing.T) {
	t.Parallel()
	for conf, want := range map[string]string{
		`"deviceID":"0000:01:00.1","pciBusID":"0000:01:00.2"`:                   "0000:01:00.1",
		`"pciBusID":"0000:01:00.2","runtimeConfig":{"deviceID":"0000:01:00.3"}`: "0000:01:00.3",
		`"runtimeConfig":{"pciBusID":"0000:01:00.4"},"pciBusID":"0000:01:00.2"`: "0000:01:00.2",
		`"runtimeConfig":{"pciBusID":"0000:01:00.4"}`:                           "0000:01:00.4",
		`"deviceID":"10000:01:00.1"`:                                            "10000:01:00.1",
	} {
		r, err := Parse([]byte("{"+conf+"}"), "")
		require.NoError(t, err, conf)
		assert.Equal(t, want, r.Device.String())
		basics, err := Basics([]byte("{" + conf + "}")) // what DEL goes by
		require.NoError(t, err, conf)
		device, err := basics.Device()
		require.NoError(t, err, conf)
		assert.Equal(t, want, device.String())
	}
}

func TestRateKeepsTheHalfNotGiven(t *testing.T) {
	t.Parallel()
	have := vfstate.State{Rate: &vfstate.Rate{Min: 20, Max: 1000}}
	got, err := Request{MaxRate: new(uint32(500))}.Want(have)
	require.NoError(t, err)
	assert.Equal(t, &vfstate.Rate{Min: 20, Max: 500}, got.Rate)
	_, err = Request{MaxRate: new(uint32(10))}.Want(have)
	assert.ErrorContains(t, err, "min_tx_rate is 20 and max_tx_rate 10")
	got, err = Request{MinRate: new(uint32(5))}.Want(vfstate.State{})
	require.NoError(t, err)
	assert.Equal(t, &vfstate.Rate{Min: 5}, got.Rate)
}

// A request is a value or an error, and what the value says is in range,
// whatever stdin and CNI_ARGS hold. Nothing is touched: there is nothing to touch.
func FuzzParseRequest(f *testing.F) {
	for _, seed := range []string{
		"{" + minimal + "}",
		"{" + minimal + `,"vlan":100,"vlanQoS":3,"vlanProto":"802.1ad","mac":"ca-fe-c0-ff-ee-01","mtu":9000}`,
		"{" + minimal + `,"spoofchk":"on","trust":"off","link_state":"auto","min_tx_rate":1,"max_tx_rate":2}`,
		"{" + minimal + `,"ipam":{"type":"host-local"},"runtimeConfig":{"mac":"ca:fe:c0:ff:ee:01"},"prevResult":{"ips":[]}}`,
		`{"vlan":null,"deviceID":"../../etc"}`, `[]`, `null`, `{"ipam":7}`,
	} {
		f.Add([]byte(seed), "IgnoreUnknown=true;MAC=ca:fe:c0:ff:ee:02")
	}
	f.Fuzz(func(t *testing.T, stdin []byte, args string) {
		r, err := Parse(stdin, args)
		if err != nil {
			require.Equal(t, Request{}, r)
			require.NotEmpty(t, err.Error())
			return
		}
		_, err = libsriov.ParseAddress(r.Device.String())
		require.NoError(t, err)
		if v := r.Admin.VLAN; v != nil {
			require.True(t, v.ID <= 4094 && v.QoS <= 7)
		}
		require.True(t, r.MAC == nil || len(r.MAC) == 6 && r.MAC[0]&1 == 0)
	})
}
