// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/stretchr/testify/require"
)

func pool(body string) string {
	return `{"resourceList": [{"resourceName": "nic", ` + body + `}]}`
}

func selector(body string) string { return pool(`"selectors": {` + body + `}`) }

func TestParse(t *testing.T) {
	t.Parallel()
	vf0, err := libsriov.ParseAddress("0000:01:02.0")
	require.NoError(t, err)
	nic := config.Resource{Prefix: "example.com", Name: "nic"}
	one := func(p config.Pool) config.Config {
		p.Resource, p.Preference = nic, max(p.Preference, config.Packed)
		if p.DeviceType == "" {
			p.DeviceType = config.NetDevice
		}
		return config.Config{Pools: []config.Pool{p}}
	}
	with := func(s config.Selector) config.Config { return one(config.Pool{Selectors: []config.Selector{s}}) }
	for name, tc := range map[string]struct {
		text string
		want config.Config
	}{
		"no pools":            {`{"resourceList": []}`, config.Config{}},
		"null list":           {`{"resourceList": null}`, config.Config{}},
		"everything":          {selector(``), with(config.Selector{})},
		"null is absent":      {selector(`"vendors": null, "isRdma": null`), with(config.Selector{})},
		"keys in any case":    {selector(`"VENDORS": ["8086"]`), with(config.Selector{Vendors: []libsriov.ID{0x8086}})},
		"numbers in any case": {selector(`"vendors": ["0x8086"], "devices": ["154C"]`), with(config.Selector{Vendors: []libsriov.ID{0x8086}, Devices: []libsriov.ID{0x154c}})},
		"short address":       {selector(`"pciAddresses": ["01:02.0"]`), with(config.Selector{PCIAddresses: []libsriov.Address{vf0}})},
		"partition key":       {selector(`"pKeys": ["0xABC"]`), with(config.Selector{PKeys: []string{"0x0abc"}})},
		"ranges": {selector(`"pfNames": ["eth0#0-3,7", "eth0#9", "eth1"], "rootDevices": ["01:00.0#1"]`), with(config.Selector{
			PFNames: []config.Range{
				{Parent: "eth0", Only: []libsriov.Range{{First: 0, Last: 3}, {First: 7, Last: 7}}},
				{Parent: "eth0", Only: []libsriov.Range{{First: 9, Last: 9}}},
				{Parent: "eth1"},
			},
			RootDevices: []config.Range{{Parent: "0000:01:00.0", Only: []libsriov.Range{{First: 1, Last: 1}}}},
		})},
		"alternatives": {pool(`"selectors": [{"drivers": ["vfio-pci"]}, {"linkTypes": ["infiniband"], "isRdma": true}]`), one(config.Pool{Selectors: []config.Selector{
			{Drivers: []string{"vfio-pci"}}, {LinkTypes: []libsriov.LinkType{libsriov.LinkInfiniBand}, RDMA: true},
		}})},
		"sub-functions": {pool(`"deviceType": "auxNetDevice", "selectors": {"auxTypes": ["sf"], "needVhostNet": true}`), one(config.Pool{
			DeviceType: config.AuxNetDevice, Selectors: []config.Selector{{AuxTypes: []string{"sf"}, NeedVhostNet: true}},
		})},
		"pool options": {pool(`"selectors": {}, "excludeTopology": true, "includePFs": true, "linkHealth": true, "preference": "spread",
			"additionalInfo": {"*": {"token": "t"}, "01:02.0": {"mac": "m"}}`), one(config.Pool{
			Selectors: []config.Selector{{}}, ExcludeTopology: true, IncludePFs: true, LinkHealth: true, Preference: config.Spread,
			AdditionalInfo: map[string]map[string]string{"*": {"token": "t"}, "0000:01:02.0": {"mac": "m"}},
		})},
		// What an operator renders that serialises its structs.
		"rendered by a program": {
			pool(`"excludeTopology": false, "selectors": {"vendors": ["8086"], "pfNames": ["eth0#0-1"], "IsRdma": false, "NeedVhostNet": false, "vdpaType": ""}, "SelectorObj": null, "SelectorObjs": null`),
			with(config.Selector{Vendors: []libsriov.ID{0x8086}, PFNames: []config.Range{{Parent: "eth0", Only: []libsriov.Range{{First: 0, Last: 1}}}}}),
		},
		"said of the pool, and says nothing": {
			pool(`"IsRdma": false, "needVhostNet": false, "drivers": [], "futureFlag": false, "futureList": [], "deviceType": "", "selectors": {"excludeTopology": false}`),
			with(config.Selector{}),
		},
		"sub-functions of a function": {
			pool(`"deviceType": "auxNetDevice", "selectors": [{"vendors": ["15b3"], "devices": ["a2dc"], "pciAddresses": ["0000:01:02.0"], "pfNames": ["p0#1"], "auxTypes": ["sf"]}]`),
			one(config.Pool{DeviceType: config.AuxNetDevice, Selectors: []config.Selector{{
				Vendors: []libsriov.ID{0x15b3}, Devices: []libsriov.ID{0xa2dc}, PCIAddresses: []libsriov.Address{vf0},
				PFNames: []config.Range{{Parent: "p0", Only: []libsriov.Range{{First: 1, Last: 1}}}}, AuxTypes: []string{"sf"},
			}}}),
		},
		"VFs only": {selector(`"isVF": true`), with(config.Selector{VF: true})},
		"empty lists say nothing": {pool(`"deviceType": "accelerator", "selectors": {"pfNames": [], "isRdma": false}`), one(config.Pool{
			DeviceType: config.Accelerator, Selectors: []config.Selector{{}},
		})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := config.Parse([]byte(tc.text), "example.com")
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(tc.want, got))
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"nothing":              {``, `1:1: not JSON`},
		"half a document":      {`{`, `1:1: not JSON`},
		"two documents":        {`{"resourceList": []} {}`, `1:22: not JSON`},
		"a list":               {`[]`, `1:1: the configuration is a list`},
		"no list":              {`{}`, `resourceList is missing`},
		"RDMA of a pool":       {pool(`"isRdma": true, "selectors": {}`), `1:43: pool nic: unknown key "isRdma" in a pool; isRdma belongs into a selector: "selectors": {…}`},
		"RDMA in another case": {pool(`"ISRDMA": true, "selectors": {}`), `isRdma belongs into a selector`},
		"drivers of a pool":    {pool(`"drivers": ["iavf"], "selectors": {}`), `drivers belongs into a selector`},
		"topology of selector": {selector(`"excludeTopology": true`), `excludeTopology belongs into a pool, beside selectors`},
		"address as a number":  {selector(`"devices": ["0000:03:00.0"]`), `devices: "0000:03:00.0" is a PCI address, which belongs into pciAddresses`},
		"pool is no object":    {`{"resourceList": [1]}`, `a pool is the number 1`},
		"key twice":            {`{"resourceList": [], "ResourceList": []}`, `1:22: key "resourceList" appears twice`},
		"no name":              {`{"resourceList": [{"selectors": {}}]}`, `resourceName is missing`},
		"byte order mark":      {"\ufeff" + `{"resourceList": []}`, `1:1: not JSON: it begins with a byte order mark; save it as UTF-8 without one`},
		"UTF-16":               {"\xff\xfe{\x00}\x00", `it begins with a byte order mark`},
		"dotted name":          {`{"resourceList": [{"resourceName": "a.b", "selectors": {}}]}`, `1:36: pool "a.b": resourceName "a.b": want 1 to 63 letters`},
		"name that beeps":      {`{"resourceList": [{"resourceName": "a\u0007", "selectors": {}}]}`, `pool "a\a": resourceName "a\a": want`},
		"long name":            {`{"resourceList": [{"resourceName": "` + strings.Repeat("x", 200) + `", "selectors": {}}]}`, `want 1 to 63 letters`},
		"upper-case prefix":    {pool(`"resourcePrefix": "Example.com", "selectors": {}`), `1:61: pool nic: resourcePrefix "Example.com"`},
		"kubernetes' prefix":   {pool(`"resourcePrefix": "x.kubernetes.io", "selectors": {}`), `use a domain of your own`},
		"no selectors":         {pool(`"excludeTopology": true`), `selectors is missing or null`},
		"null selectors":       {pool(`"selectors": null`), `selectors is missing or null`},
		"empty selectors":      {pool(`"selectors": []`), `selectors is a list; want an object`},
		"string selectors":     {pool(`"selectors": "all"`), `selectors is the string "all"`},
		"selector objects":     {pool(`"selectors": {}, "SelectorObjs": [{}]`), `SelectorObjs is a list; use selectors`},
		"misspelt key":         {selector(`"pfName": ["eth0"]`), `pool nic: unknown key "pfName" in a selector; did you mean "pfNames"?`},
		"unknown key":          {selector(`"colour": ["red"]`), `want one of acpiIndexes`},
		"string for a list":    {selector(`"vendors": "8086"`), `vendors is the string "8086"; want a list of strings`},
		"number in a list":     {selector(`"vendors": [8086]`), `vendors has the number 8086`},
		"not hexadecimal":      {selector(`"devices": ["15xx"]`), `devices: "15xx": want four hexadecimal digits`},
		"unknown device type":  {pool(`"deviceType": "netdevice", "selectors": {}`), `deviceType is the string "netdevice"; want netDevice, accelerator, auxNetDevice`},
		"unknown vDPA type":    {selector(`"vdpaType": "vfio"`), `vdpaType is the string "vfio"; want virtio, vhost`},
		"RDMA and vDPA":        {selector(`"isRdma": true, "vdpaType": "vhost"`), `exclude each other`},
		"RDMA as a string":     {selector(`"isRdma": "yes"`), `isRdma is the string "yes"; want true or false`},
		"no aux type":          {pool(`"deviceType": "auxNetDevice", "selectors": {}`), `auxTypes is missing`},
		"ethernet aux":         {pool(`"deviceType": "auxNetDevice", "selectors": {"auxTypes": ["eth"]}`), `auxTypes: "eth": want "sf"`},
		"wrong type of pool":   {pool(`"deviceType": "accelerator", "selectors": {"pfNames": ["eth0"]}`), `pfNames cannot select in a pool of type accelerator`},
		"reversed range":       {selector(`"pfNames": ["pf0#3-0"]`), `"pf0#3-0": item "3-0": not a range (want N, or N-M with N not above M`},
		"range of words":       {selector(`"pfNames": ["pf0#x"]`), `pfNames: "pf0#x"`},
		"empty range":          {selector(`"pfNames": ["pf0#"]`), `pfNames: "pf0#"`},
		"blank in a range":     {selector(`"pfNames": ["pf0#0, 1"]`), `item " 1"`},
		"signed range":         {selector(`"pfNames": ["pf0#+1"]`), `item "+1"`},
		"name for an address":  {selector(`"rootDevices": ["eth0"]`), `not a PCI address (want domain:bus:device.function, e.g. 0000:3b:02.1); interface names belong into pfNames`},
		"VFs for an address":   {selector(`"pciAddresses": ["3b:00.0#0-3"]`), `"3b:00.0#0-3" names VFs of a PF, which belongs into rootDevices`},
		"unknown link type":    {selector(`"linkTypes": ["eth"]`), `linkTypes: "eth": want ether or infiniband`},
		"ACPI index in words":  {selector(`"acpiIndexes": ["one"]`), `want a decimal number`},
		"partition key":        {selector(`"pKeys": ["8001"]`), `want "0x" and up to four hexadecimal digits`},
		"empty driver":         {selector(`"drivers": [""]`), `an empty string matches nothing`},
		"driver with a blank":  {selector(`"drivers": ["iavf "]`), `drivers: "iavf " matches nothing; remove the blanks around it`},
		"information about it": {pool(`"selectors": {}, "additionalInfo": {"eth0": {}}`), `additionalInfo has key "eth0"`},
		"information no text":  {pool(`"selectors": {}, "additionalInfo": {"*": {"mtu": 1500}}`), `"mtu" is the number 1500; want a string`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := config.Parse([]byte(tc.text), "example.com")
			require.ErrorContains(t, err, tc.want)
			require.Zero(t, got)
			require.ErrorAs(t, err, new(*config.PositionError))
		})
	}
}

func TestParseNamesEveryPlace(t *testing.T) {
	t.Parallel()
	_, err := config.Parse([]byte(`{
  "resourceList": [
    {"resourceName": "a", "selectors": {"pfName": ["x"]}},
    {"resourceName": "b-b", "selectors": {"vendors": ["z"],
       "pfNames": ["p#"]}},
    {"resourceName": "B-b", "selectors": {}},
    {"resourceName": "b-b", "selectors": {}}
  ]
}`), "example.com")
	require.EqualError(t, err, strings.Join([]string{
		`3:41: pool a: unknown key "pfName" in a selector; did you mean "pfNames"?`,
		`4:55: pool b-b: vendors: "z": want four hexadecimal digits, e.g. "8086"`,
		`5:20: pool b-b: pfNames: "p#": item "": not a range (want N, or N-M with N not above M, e.g. "3" or "0-3")`,
		`6:5: pool B-b: resource example.com/B-b would share the variable PCIDEVICE_EXAMPLE_COM_B-B with example.com/b-b; rename one`,
		`7:5: pool b-b: resource example.com/b-b is defined twice; put both selectors into one pool's list`,
	}, "\n"))
}

// A text either is a configuration, every part of which can be used, or has an
// error with a place; never both.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"resourceList": []}`, `{`, `{"resourceList": [{"resourceName": "n"}]}`,
		selector(`"vendors": ["8086"], "pfNames": ["eth0#0-3,7"], "rootDevices": ["01:00.0#1"], "vdpaType": "vhost"`),
		pool(`"selectors": [{}, {"isRdma": true}], "additionalInfo": {"*": {"a": "b"}}, "SelectorObjs": null`),
		pool(`"deviceType": "auxNetDevice", "selectors": {"auxTypes": ["sf"]}`),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := config.Parse([]byte(text), "example.com")
		if err != nil {
			require.Zero(t, cfg)
			require.ErrorAs(t, err, new(*config.PositionError))
			return
		}
		names := map[string]bool{}
		for _, p := range cfg.Pools {
			require.NotEmpty(t, p.Resource.Prefix)
			require.NotEmpty(t, p.Resource.Name)
			require.NotEmpty(t, p.Selectors)
			require.NotContains(t, p.Resource.String()[len(p.Resource.Prefix)+1:], "/")
			require.False(t, names[p.Resource.EnvName()])
			names[p.Resource.EnvName()] = true
		}
	})
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"eth0", "eth0#1", "eth0#0-3,7", "#", "a#", "a#3-0", "a#1-2-3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := config.ParseRange(text)
		if err != nil {
			require.Zero(t, r)
			return
		}
		again, err := config.ParseRange(r.String())
		require.NoError(t, err)
		require.Equal(t, r, again)
		for _, i := range r.Only {
			require.LessOrEqual(t, i.First, i.Last)
			require.True(t, r.Contains(i.First) && r.Contains(i.Last))
		}
	})
}

// A pool's variable is not another's list of facts.
func TestVariablesOfTwoPools(t *testing.T) {
	t.Parallel()
	for _, names := range [][2]string{{"nic", "nic_info"}, {"NIC_INFO", "nic"}} {
		_, err := config.Parse(fmt.Appendf(nil, `{"resourceList": [{"resourceName": %q, "selectors": {}}, {"resourceName": %q, "selectors": {}}]}`, names[0], names[1]), "example.com")
		require.ErrorContains(t, err, "would share the variable PCIDEVICE_EXAMPLE_COM_NIC")
	}
}

// A file with thousands of mistakes is refused at once, and in a few lines.
func TestManyMistakes(t *testing.T) {
	t.Parallel()
	const n = 20_000
	data := append([]byte(`{"resourceList": [`), bytes.Repeat([]byte("{},"), n)...)
	_, err := config.Parse(append(data, "{}]}"...), "example.com")
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, 21)
	require.Equal(t, fmt.Sprintf(" and %d more like these", 2*(n+1)-20), lines[20])
}
