package nad

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

func TestSriovAllFields(t *testing.T) {
	got, err := Sriov("net1", &v1.SriovNetworkSpec{
		ResourceName: "nics", Vlan: 100, VlanQoS: 3, VlanProto: "802.1ad", SpoofChk: "off", Trust: "on", LinkState: "enable",
		MinTxRate: new(10), MaxTxRate: new(0), Capabilities: `{"mac":true, "ips":true}`, LogLevel: "debug", LogFile: "/var/log/sriov.log",
		IPAM: `{"type":"host-local","note":"it's  <two>  spaces & an apostrophe"}`,
	})
	require.NoError(t, err)
	require.Equal(t, `{
    "cniVersion": "1.0.0",
    "name": "net1",
    "type": "sriov",
    "vlan": 100,
    "spoofchk": "off",
    "trust": "on",
    "vlanQoS": 3,
    "vlanProto": "802.1ad",
    "min_tx_rate": 10,
    "max_tx_rate": 0,
    "capabilities": {
        "mac": true,
        "ips": true
    },
    "link_state": "enable",
    "logLevel": "debug",
    "logFile": "/var/log/sriov.log",
    "ipam": {
        "type": "host-local",
        "note": "it's  <two>  spaces & an apostrophe"
    }
}`, got)
}

func TestChainsAndDefaults(t *testing.T) {
	got, err := Sriov("net1", &v1.SriovNetworkSpec{ResourceName: "nics", MetaPluginsConfig: `{"type":"tuning","sysctl":{}}, {"type":"vrf"}`})
	require.NoError(t, err)
	require.JSONEq(t, `{"cniVersion":"1.0.0","name":"net1","plugins":[
		{"type":"sriov","vlan":0,"vlanQoS":0,"ipam":{}},{"type":"tuning","sysctl":{}},{"type":"vrf"}]}`, got)

	got, err = IB("ib1", &v1.SriovIBNetworkSpec{ResourceName: "ib", LinkState: "auto", Capabilities: `{"infinibandGUID":true}`})
	require.NoError(t, err)
	require.JSONEq(t, `{"cniVersion":"1.0.0","name":"ib1","type":"ib-sriov","capabilities":{"infinibandGUID":true},"link_state":"auto","ipam":{}}`, got)

	got, err = OVS("ovs1", &v1.OVSNetworkSpec{ResourceName: "sw", Bridge: "br0", Vlan: 7, MTU: 1400, InterfaceType: "dpdk",
		Trunk: []*v1.TrunkConfig{{MinID: new(uint(1)), MaxID: new(uint(9))}, {ID: new(uint(20))}}})
	require.NoError(t, err)
	require.JSONEq(t, `{"cniVersion":"1.0.0","name":"ovs1","type":"ovs","bridge":"br0","vlan":7,"mtu":1400,
		"trunk":[{"minID":1,"maxID":9},{"id":20}],"interface_type":"dpdk","ipam":{}}`, got)
}

func TestRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		spec v1.SriovNetworkSpec
		want string
	}{
		"ipam cut short":         {v1.SriovNetworkSpec{IPAM: `{"type":`}, "ipam: want a JSON object"},
		"ipam is a list":         {v1.SriovNetworkSpec{IPAM: `[]`}, "ipam: want a JSON object"},
		"ipam is null":           {v1.SriovNetworkSpec{IPAM: `null`}, "ipam: want a JSON object"},
		"ipam closes its parent": {v1.SriovNetworkSpec{IPAM: `{}, "type": "evil"`}, "ipam: want a JSON object"},
		"capability not a bool":  {v1.SriovNetworkSpec{Capabilities: `{"mac":"yes"}`}, "capabilities: want"},
		"meta plugin, no type":   {v1.SriovNetworkSpec{MetaPluginsConfig: `{"a":1}`}, "entry 1: want an object"},
		"meta plugin, number":    {v1.SriovNetworkSpec{MetaPluginsConfig: `{"type":"a"},5`}, "entry 2: want an object"},
		"meta plugins escape":    {v1.SriovNetworkSpec{MetaPluginsConfig: `{"type":"a"}],"name":"x","b":[{"type":"b"}`}, "metaPlugins: want"},
		"rates":                  {v1.SriovNetworkSpec{MinTxRate: new(9), MaxTxRate: new(5)}, "minTxRate 9 exceeds maxTxRate 5"},
		"vlan":                   {v1.SriovNetworkSpec{Vlan: 4095}, "vlan 4095"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Sriov("n", &tc.spec)
			require.ErrorContains(t, err, tc.want)
			require.Empty(t, got)
		})
	}
}

// Whatever the free-text fields hold, the result is an error or one JSON object whose
// name and first plugin are the operator's.
func FuzzSriov(f *testing.F) {
	f.Add(`{"type":"x"}`, `{"mac":true}`, `{"type":"tuning"}`, "log")
	f.Add("{}\n---\n", `{}`, `{"type":"a"}],"name":"x","b":[`, "a\n  namespace: kube-system")
	f.Add(`{"ipam":{"type":"y"},"type":"z"}`, ``, ``, "\"")
	f.Fuzz(func(t *testing.T, ipam, caps, meta, logFile string) {
		got, err := Sriov("net1", &v1.SriovNetworkSpec{IPAM: ipam, Capabilities: caps, MetaPluginsConfig: meta, LogFile: logFile})
		if err != nil {
			require.Empty(t, got)
			return
		}
		var conf struct {
			Name, Type string
			Plugins    []struct{ Type string }
		}
		require.NoError(t, json.Unmarshal([]byte(got), &conf), got)
		require.Equal(t, "net1", conf.Name)
		if len(conf.Plugins) > 0 {
			conf.Type = conf.Plugins[0].Type
		}
		require.Equal(t, "sriov", conf.Type)
	})
}
