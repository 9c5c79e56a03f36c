// SPDX-License-Identifier: Apache-2.0

package nad

import (
	"encoding/json"
	"errors"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/nad/nadtest"
)

func TestSriovAllFields(t *testing.T) {
	spec := v1.SriovNetworkSpec{
		ResourceName: "nics", Vlan: 100, VlanQoS: 3, VlanProto: "802.1ad", SpoofChk: "off", Trust: "on", LinkState: "enable",
		MinTxRate: new(10), MaxTxRate: new(0), Mtu: 9000, Capabilities: `{"mac":true, "ips":true}`, LogLevel: "debug", LogFile: "/var/log/sriov.log",
		IPAM: `{"type":"host-local","note":"it's  <two>  spaces & an apostrophe"}`,
	}
	allSet(t, spec)
	got, err := Sriov("net1", &spec)
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
    "mtu": 9000,
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
}

func TestIBAllFields(t *testing.T) {
	spec := v1.SriovIBNetworkSpec{ResourceName: "ib", LinkState: "auto", Capabilities: `{"infinibandGUID":true}`, IPAM: `{"type":"static"}`}
	allSet(t, spec)
	got, err := IB("ib1", &spec)
	require.NoError(t, err)
	require.JSONEq(t, `{"cniVersion":"1.0.0","name":"ib1","type":"ib-sriov","capabilities":{"infinibandGUID":true},"link_state":"auto","ipam":{"type":"static"}}`, got)

	got, err = IB("ib1", &v1.SriovIBNetworkSpec{ResourceName: "ib", MetaPluginsConfig: `{"type":"vrf"}`})
	require.NoError(t, err)
	require.JSONEq(t, `{"cniVersion":"1.0.0","name":"ib1","plugins":[{"type":"ib-sriov","ipam":{}},{"type":"vrf"}]}`, got)
}

func TestOVSAllFields(t *testing.T) {
	spec := v1.OVSNetworkSpec{
		ResourceName: "sw", Bridge: "br0", Vlan: 7, MTU: 1400, InterfaceType: "dpdk", Capabilities: `{"mac":true}`, IPAM: `{"type":"static"}`,
		Trunk: []*v1.TrunkConfig{{MinID: new(uint(1)), MaxID: new(uint(9))}, {ID: new(uint(20))}},
	}
	allSet(t, spec)
	got, err := OVS("ovs1", &spec)
	require.NoError(t, err)
	require.JSONEq(t, `{"cniVersion":"1.0.0","name":"ovs1","type":"ovs","capabilities":{"mac":true},"bridge":"br0","vlan":7,"mtu":1400,
		"trunk":[{"minID":1,"maxID":9},{"id":20}],"interface_type":"dpdk","ipam":{"type":"static"}}`, got)

	got, err = OVS("ovs1", &v1.OVSNetworkSpec{ResourceName: "sw", MetaPluginsConfig: `{"type":"vrf"}`})
	require.NoError(t, err)
	require.JSONEq(t, `{"cniVersion":"1.0.0","name":"ovs1","plugins":[{"type":"ovs","ipam":{}},{"type":"vrf"}]}`, got)
}

// allSet fails for a field, also one that is added later, that a test of all fields leaves
// out. Chains have tests of their own, namespaces those of the controller.
func allSet(t *testing.T, spec any) {
	t.Helper()
	elsewhere := []string{"NetworkNamespace", "MetaPluginsConfig"}
	for f, value := range reflect.ValueOf(spec).Fields() {
		require.NotEqual(t, slices.Contains(elsewhere, f.Name), !value.IsZero(), "set %s here, and what becomes of it below", f.Name)
	}
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

// Texts at their limits are rendered, or refused with a reason, at the same small cost:
// what a tenant writes costs the operator nothing that others would miss.
func TestTextsAreBounded(t *testing.T) {
	nested := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + "}" }
	list := func(bytes int) string { return `{"a":[1` + strings.Repeat(",1", bytes/2) + `]}` }
	for name, tc := range map[string]struct {
		text, want string
	}{
		"nested as deep as allowed": {nested(31), ""},
		"nested one deeper":         {nested(32), "nested 33 deep, want at most 32"},
		"nested for ever":           {nested(8000), "nested 8001 deep, want at most 32"},
		"nested in a string":        {`{"a":"` + strings.Repeat(`[\"{`, 3000) + `"}`, ""},
		"never closed":              {strings.Repeat(`[`, 16000), "nested 16000 deep"},
		"a list at the limit":       {list(16<<10 - 16), ""},
		"a list beyond":             {list(240 << 10), "want at most 16384"},
		"deep and wide":             {`{"a":` + strings.Repeat("[", 30) + "1" + strings.Repeat(",1", 8000) + strings.Repeat("]", 30) + "}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Sriov("n", &v1.SriovNetworkSpec{IPAM: tc.text, MetaPluginsConfig: `{"type":"tuning","x":` + tc.text + "}", Capabilities: tc.text})
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
			require.Error(t, err) // no text is capabilities
			got, err := Sriov("n", &v1.SriovNetworkSpec{IPAM: tc.text})
			if tc.want == "" {
				require.NoError(t, err)
				require.Less(t, len(got), 64<<10)
				require.True(t, json.Valid([]byte(got)))
				return
			}
			require.ErrorContains(t, err, "ipam: ")
			require.ErrorContains(t, err, tc.want)
			require.Less(t, len(err.Error()), 500)
		})
	}
}

func TestTenantsNameNothingOfTheNode(t *testing.T) {
	t.Parallel()
	render := func(namespace string, spec v1.SriovNetworkSpec) (string, string, error) {
		n := &v1.SriovNetwork{Spec: spec}
		n.Namespace, n.Name = namespace, "n"
		source, ok := SourceOf(n)
		require.True(t, ok)
		return source.Config("operators")
	}
	for name, tc := range map[string]struct {
		spec v1.SriovNetworkSpec
		want string
	}{
		"a device of the node":        {v1.SriovNetworkSpec{MetaPluginsConfig: `{"type":"host-device","device":"eth0"}`}, `"device" names something of the node`},
		"a second VF":                 {v1.SriovNetworkSpec{MetaPluginsConfig: `{"type":"tuning"},{"type":"sriov"}`}, `entry 2: type "sriov" takes a device`},
		"a second VF, by another key": {v1.SriovNetworkSpec{MetaPluginsConfig: `{"TYPE":"sriov","type":"tuning"}`}, `type "sriov" takes a device`},
		"deviceID in another case":    {v1.SriovNetworkSpec{MetaPluginsConfig: `{"type":"x","DeviceId":"0000:01:10.0"}`}, `"DeviceId" names something`},
		"deviceID deeper":             {v1.SriovNetworkSpec{MetaPluginsConfig: `{"type":"x","args":[{"cni":{"pciBusID":"0000:01:10.0"}}]}`}, `"pciBusID" names something`},
		"runtimeConfig":               {v1.SriovNetworkSpec{MetaPluginsConfig: `{"type":"tuning","runtimeConfig":{}}`}, `"runtimeConfig" names something`},
		"an interface of the node":    {v1.SriovNetworkSpec{MetaPluginsConfig: `{"type":"x","master":"eth0"}`}, `"master" names something`},
		"interfaces of the node":      {v1.SriovNetworkSpec{MetaPluginsConfig: `{"type":"bond","linksInContainer":false,"links":[{"name":"eth0"}]}`}, `type "bond" takes a device`},
		"other networks":              {v1.SriovNetworkSpec{MetaPluginsConfig: `{"type":"multus"}`}, `type "multus" takes a device`},
		"a plugin instead of IPAM":    {v1.SriovNetworkSpec{IPAM: `{"Type":"host-device"}`}, `ipam: type "host-device" takes a device`},
		"one that IPAM runs":          {v1.SriovNetworkSpec{IPAM: `{"type":"x","ipam":[{"type":"macvlan"}]}`}, `ipam: type "macvlan" takes a device`},
		"one that a plugin runs":      {v1.SriovNetworkSpec{MetaPluginsConfig: `{"type":"x","delegate":{"type":"bridge"}}`}, `entry 1: type "bridge" takes a device`},
		"hidden by a second key":      {v1.SriovNetworkSpec{MetaPluginsConfig: `{"type":"x","delegate":{"type":"host-device"},"delegate":{}}`}, `metaPlugins: the key "delegate" is there twice`},
		"hidden in another entry":     {v1.SriovNetworkSpec{MetaPluginsConfig: `{"type":"x"},{"type":"y","ipam":{"type":"macvlan"},"ipam":{"a":1}}`}, `the key "ipam" is there twice`},
		"hidden in ipam":              {v1.SriovNetworkSpec{IPAM: `{"type":"x","a":{"dataDir":"/etc"},"a":{}}`}, `ipam: the key "a" is there twice`},
		"hidden behind a number":      {v1.SriovNetworkSpec{IPAM: `{"type":"x","n":1e999,"a":{"dataDir":"/etc"}}`}, `"dataDir" names something`},
		"in letters that fold":        {v1.SriovNetworkSpec{IPAM: `{"type":"x","re\u017folvConf":"/etc/shadow"}`}, `names something`},
		"in escapes":                  {v1.SriovNetworkSpec{MetaPluginsConfig: `{"t\u0079pe":"host\u002ddevice"}`}, `type "host-device" takes a device`},
		"a port of the node":          {v1.SriovNetworkSpec{MetaPluginsConfig: `{"type":"ovs-mirror-consumer","bridge":"b"}`}, `type "ovs-mirror-consumer" takes a device`},
		"a socket of the node":        {v1.SriovNetworkSpec{IPAM: `{"type":"nv-ipam","daemonSocket":"unix:///run/x.sock"}`}, `ipam: "daemonSocket" names something`},
		"a directory of the node":     {v1.SriovNetworkSpec{IPAM: `{"type":"host-local","dataDir":"/etc"}`}, `ipam: "dataDir" names something`},
		"a file of the node":          {v1.SriovNetworkSpec{IPAM: `{"type":"host-local","resolvConf":"/etc/shadow"}`}, `ipam: "resolvConf" names`},
	} {
		t.Run(name, func(t *testing.T) {
			config, _, err := render("tenant", tc.spec)
			require.ErrorContains(t, err, tc.want)
			require.Empty(t, config)
			config, _, err = render("operators", tc.spec)
			require.NoError(t, err, "who runs the operator runs the nodes")
			require.NotEmpty(t, config)
		})
	}
	config, left, err := render("tenant", v1.SriovNetworkSpec{LogFile: "/etc/cron.d/x", LogLevel: "debug", IPAM: `{"type":"whereabouts","range":"10.0.0.0/24"}`, MetaPluginsConfig: `{"type":"tuning","sysctl":{"net.core.somaxconn":"500"}},{"type":"vrf","vrfname":"red"}`})
	require.NoError(t, err)
	require.NotContains(t, config, "cron")
	require.Contains(t, left, "logFile is left out")
	config, left, err = render("operators", v1.SriovNetworkSpec{LogFile: "/var/log/x"})
	require.NoError(t, err)
	require.Contains(t, config, "/var/log/x")
	require.Empty(t, left)

	n := &v1.SriovNetwork{Spec: v1.SriovNetworkSpec{ResourceName: "fast"}}
	n.Namespace = "tenant"
	source, _ := SourceOf(n)
	require.NoError(t, source.Allowed(nil))
	require.NoError(t, source.Allowed(map[string]string{v1.AnnotationAllowedResources: "slow, fast"}))
	require.ErrorContains(t, source.Allowed(map[string]string{v1.AnnotationAllowedResources: "slow,faster"}), `resourceName fast: the namespace tenant may name no other resources than "slow,faster"`)
	require.Error(t, source.Allowed(map[string]string{v1.AnnotationAllowedResources: ""}), "empty is none")
}

// Plugins that a namespace's list does not name are refused at any depth; the list of what
// takes devices holds beside it.
func TestPluginsOfANamespace(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		allowed, ipam, meta, want string
	}{
		"listed":            {"tuning,host-local", `{"type":"host-local"}`, `{"type":"tuning"}`, ""},
		"blanks":            {" tuning , vrf ", "", `{"type":"tuning"},{"type":"vrf"}`, ""},
		"nothing named":     {"", "", "", ""},
		"nothing allowed":   {"", `{"type":"static"}`, "", `ipam: type "static": the namespace tenant may name no other plugins than ""`},
		"another":           {"tuning", "", `{"type":"tuning"},{"type":"x"}`, `metaPlugins: type "x"`},
		"by another key":    {"tuning", "", `{"type":"tuning","Type":"x"}`, `type "x"`},
		"deeper":            {"tuning", "", `{"type":"tuning","delegates":[{"a":{"type":"x"}}]}`, `type "x"`},
		"one that IPAM has": {"static", `{"type":"static","ipam":{"type":"x"}}`, "", `ipam: type "x"`},
		"part of a name":    {"tuning2", "", `{"type":"tuning"}`, `type "tuning"`},
	} {
		n := &v1.SriovNetwork{Spec: v1.SriovNetworkSpec{IPAM: tc.ipam, MetaPluginsConfig: tc.meta}}
		n.Namespace, n.Name = "tenant", "n"
		source, ok := SourceOf(n)
		require.True(t, ok)
		require.NoError(t, source.PluginsAllowed(nil), name)
		err := source.PluginsAllowed(map[string]string{v1.AnnotationAllowedPlugins: tc.allowed})
		if tc.want == "" {
			require.NoError(t, err, name)
		} else {
			require.ErrorContains(t, err, tc.want, name)
		}
	}
	n := &v1.SriovNetwork{Spec: v1.SriovNetworkSpec{MetaPluginsConfig: `{"type":"sriov"}`}}
	n.Namespace, n.Name = "tenant", "n"
	source, _ := SourceOf(n)
	require.NoError(t, source.PluginsAllowed(map[string]string{v1.AnnotationAllowedPlugins: "sriov"}))
	_, _, err := source.Config("operators")
	require.ErrorContains(t, err, `type "sriov" takes a device`)
}

// Texts at their limit, of a tenant, cost little, and what is said of them can be read. What
// the operator and the API server spend on them is measured by BenchmarkTexts in bench.
func TestHostileTexts(t *testing.T) {
	for name, tc := range nadtest.Texts() {
		t.Run(name, func(t *testing.T) {
			for _, text := range []string{tc.IPAM, tc.MetaPlugins, tc.Capabilities} {
				require.LessOrEqual(t, len(text), nadtest.Limit)
			}
			n := &v1.SriovNetwork{Spec: v1.SriovNetworkSpec{ResourceName: "r", IPAM: tc.IPAM, MetaPluginsConfig: tc.MetaPlugins, Capabilities: tc.Capabilities}}
			n.Namespace, n.Name = "tenant", "n"
			source, ok := SourceOf(n)
			require.True(t, ok)
			annotations := map[string]string{v1.AnnotationAllowedPlugins: strings.Repeat("x,", 120<<10), v1.AnnotationAllowedResources: strings.Repeat("\x00,", 120<<10)}

			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			config, _, err := source.Config("operators")
			errs := []error{err, source.PluginsAllowed(annotations), source.Allowed(annotations)}
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(20<<20))
			require.Error(t, errs[2])
			for _, e := range errs {
				if e != nil {
					require.Less(t, len(e.Error()), 4096)
				}
			}
			if err == nil {
				require.True(t, json.Valid([]byte(config)))
				require.Less(t, len(config), 1<<20)
			}
			if tc.Want != "" {
				require.ErrorContains(t, errors.Join(errs[:2]...), tc.Want)
			} else {
				require.NoError(t, errors.Join(errs[:2]...))
			}
		})
	}
}
