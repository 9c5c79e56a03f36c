// SPDX-License-Identifier: Apache-2.0

package pool_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/internal/testhost"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/stretchr/testify/require"
)

// parse reads pools; each argument is the body of one, named a, b, ….
func parse(t testing.TB, bodies ...string) []config.Pool {
	t.Helper()
	var list []string
	for i, b := range bodies {
		list = append(list, `{"resourceName": "`+string(rune('a'+i))+`", `+b+`}`)
	}
	cfg, err := config.Parse([]byte(`{"resourceList": [`+strings.Join(list, ",")+`]}`), "example.com")
	require.NoError(t, err)
	return cfg.Pools
}

// selecting is the body of a pool with one selector.
func selecting(s string) string { return `"selectors": {` + s + `}` }

func source(t testing.TB, root string) pool.Source {
	t.Helper()
	h, err := libsriov.Open(root)
	require.NoError(t, err)
	return pool.Source{Host: h}
}

// read lists the devices that pools ask for.
func read(t testing.TB, src pool.Source, pools []config.Pool) []pool.Device {
	t.Helper()
	devices, err := pool.Read(src, config.NeedsOf(pools))
	require.NoError(t, err)
	return devices
}

// ids names the devices of each pool.
func ids(a pool.Assignment) [][]string {
	out := make([][]string, len(a.Members))
	for i, members := range a.Members {
		out[i] = []string{}
		for _, m := range members {
			id := m.ID
			if m.Unhealthy != "" {
				id += "!"
			}
			out[i] = append(out[i], id)
		}
	}
	return out
}

func TestSelect(t *testing.T) {
	t.Parallel()
	type want = []string
	root := testhost.New(t)
	testhost.RDMA(t, root, testhost.VF0, "mlx5_2", 2)
	testhost.SF(t, root, testhost.PF, "mlx5_core.sf.2", 1)
	testhost.SF(t, root, testhost.PF, "mlx5_core.sf.3", 2)
	testhost.SF(t, root, testhost.PF, "mlx5_core.sf.4", 88)
	const aux = `"deviceType": "auxNetDevice", "selectors": {"auxTypes": ["sf"]`
	for name, tc := range map[string]struct {
		pool string
		want want
	}{
		"all network devices, no PF":   {selecting(``), want{testhost.VF0, testhost.VF1, testhost.VF2, testhost.VF3, testhost.ACPI}},
		"idle PF on request":           {`"includePFs": true, ` + selecting(`"drivers": ["igb"]`), want{testhost.NIC}},
		"idle PF by its address":       {selecting(`"pciAddresses": ["02:00.0"]`), want{testhost.NIC}},
		"PF with VFs never":            {`"includePFs": true, ` + selecting(`"pciAddresses": ["01:00.0"]`), want{}},
		"vendor and device":            {selecting(`"vendors": ["0x8086"], "devices": ["154C"]`), want{testhost.VF0, testhost.VF1, testhost.VF2, testhost.VF3}},
		"other vendor":                 {selecting(`"vendors": ["15b3"]`), want{}},
		"drivers":                      {selecting(`"drivers": ["vfio-pci", "igb_uio"]`), want{testhost.VF1, testhost.VF2, testhost.VF3}},
		"range":                        {selecting(`"pfNames": ["pf0#0-1,3"]`), want{testhost.VF0, testhost.VF1, testhost.VF3}},
		"two ranges of one PF":         {selecting(`"pfNames": ["pf0#0", "pf0#3"]`), want{testhost.VF0, testhost.VF3}},
		"PF name in other case":        {selecting(`"pfNames": ["PF0#2"]`), want{testhost.VF2}},
		"PF name is no PF":             {selecting(`"pfNames": ["host0"]`), want{}},
		"root device":                  {selecting(`"rootDevices": ["0000:01:00.0#1"]`), want{testhost.VF1}},
		"root device, short":           {selecting(`"rootDevices": ["01:00.0#1"]`), want{testhost.VF1}},
		"link type of the PF":          {selecting(`"linkTypes": ["ether"], "drivers": ["vfio-pci"]`), want{testhost.VF1, testhost.VF2}},
		"no such link type":            {selecting(`"linkTypes": ["infiniband"]`), want{}},
		"ACPI index":                   {selecting(`"acpiIndexes": ["101"]`), want{testhost.ACPI}},
		"accelerators":                 {`"deviceType": "accelerator", ` + selecting(``), want{testhost.Accel}},
		"accelerators by ACPI index":   {`"deviceType": "accelerator", ` + selecting(`"acpiIndexes": ["999"]`), want{}},
		"RDMA":                         {selecting(`"isRdma": true`), want{testhost.VF0}},
		"vDPA":                         {selecting(`"vdpaType": "vhost"`), want{}},
		"sub-functions":                {aux + `}`, want{"mlx5_core.sf.2", "mlx5_core.sf.3", "mlx5_core.sf.4"}},
		"sub-functions by number":      {aux + `, "pfNames": ["pf0#1-5"]}`, want{"mlx5_core.sf.2", "mlx5_core.sf.3"}},
		"sub-functions of root device": {aux + `, "rootDevices": ["01:00.0#88"]}`, want{"mlx5_core.sf.4"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pools := parse(t, tc.pool)
			got := pool.Assign(read(t, source(t, root), pools), pools, nil)
			require.Equal(t, [][]string{tc.want}, ids(got))
		})
	}
}

func TestDriverlessDeviceIsNotOffered(t *testing.T) {
	t.Parallel()
	root := testhost.New(t)
	testhost.Function(t, root, testhost.VF0, "20000", "8086:154C", "", 0)
	pools := parse(t, selecting(`"pfNames": ["pf0#0"]`))
	a := pool.Assign(read(t, source(t, root), pools), pools, nil)
	require.Empty(t, a.Members[0])
	require.Contains(t, explained(a, pools, testhost.VF0), "example.com/a: bound to no driver")
}

func explained(a pool.Assignment, pools []config.Pool, id string) []string {
	for _, v := range a.Verdicts {
		if v.Device.ID == id {
			return v.Explain(pools)
		}
	}
	return nil
}

func TestFirstPoolWins(t *testing.T) {
	t.Parallel()
	pools := parse(t, selecting(`"pfNames": ["pf0#0-1"]`), selecting(`"pfNames": ["pf0"]`))
	a := pool.Assign(read(t, source(t, testhost.New(t)), pools), pools, nil)
	require.Equal(t, [][]string{{testhost.VF0, testhost.VF1}, {testhost.VF2, testhost.VF3}}, ids(a))
	require.Equal(t, map[config.Resource]int{{Prefix: "example.com", Name: "b"}: 2}, a.Overlaps(pools))
	require.Equal(t, []string{"example.com/a: taken", "example.com/b: a pool further up takes it"}, explained(a, pools, testhost.VF0))
	require.Equal(t, []string{"example.com/a: pfNames: has 2 of pf0, wants [pf0#0-1]", "example.com/b: taken"}, explained(a, pools, testhost.VF2))
}

func TestFirstSelectorDecides(t *testing.T) {
	t.Parallel()
	pools := parse(t, `"selectors": [{"pfNames": ["pf0#0"]}, {"pfNames": ["pf0"], "needVhostNet": true}]`)
	a := pool.Assign(read(t, source(t, testhost.New(t)), pools), pools, nil)
	for _, m := range a.Members[0] {
		require.Equal(t, m.ID != testhost.VF0, m.Selector.NeedVhostNet, m.ID)
	}
	require.Len(t, a.Members[0], 4)
}

func TestDRANames(t *testing.T) {
	t.Parallel()
	for id, name := range map[string]string{"0000:3b:02.1": "0000-3b-02-1", "10000:01:00.0": "10000-01-00-0", "mlx5_core.sf.4": "mlx5-core-sf-4"} {
		require.Equal(t, name, pool.DRAName(id))
		back, ok := pool.DeviceID(name)
		require.True(t, ok)
		require.Equal(t, id, back)
	}
	for _, other := range []string{"", "gpu-0", "0000-3b-02-9", "0000-3b-2-1", "sf-4", "eth0"} {
		_, ok := pool.DeviceID(other)
		require.False(t, ok, other)
	}
}

func TestDefaultRouteStaysWithTheHost(t *testing.T) {
	t.Parallel()
	const host, bond, vlan, bridge, port, vswitch = 2, 3, 4, 5, 6, 7
	nic := link.Link{Index: host, Name: "host0", Parent: testhost.NIC, ParentBus: "pci"}
	for name, tc := range map[string]struct {
		links  []link.Link
		routes []int
		why    string
	}{
		"directly":    {[]link.Link{nic}, []int{host}, "(host0)"},
		"elsewhere":   {[]link.Link{nic, {Index: 9, Name: "other"}}, []int{9}, ""},
		"bond":        {[]link.Link{with(nic, bond), {Index: bond, Name: "bond0", Kind: "bond"}}, []int{bond}, "(host0, below bond0)"},
		"bridge":      {[]link.Link{with(nic, bridge), {Index: bridge, Name: "br0", Kind: "bridge"}}, []int{bridge}, "(host0, below br0)"},
		"VLAN":        {[]link.Link{nic, {Index: vlan, Name: "host0.7", Kind: "vlan", Lower: host}}, []int{vlan}, "(host0, below host0.7)"},
		"VLAN a bond": {[]link.Link{with(nic, bond), {Index: bond, Kind: "bond"}, {Index: vlan, Name: "bond0.7", Lower: bond}}, []int{vlan}, "below bond0.7"},
		"Open vSwitch": {[]link.Link{
			with(nic, vswitch), {Index: vswitch, Name: "ovs-system", Kind: "openvswitch"}, {Index: port, Name: "br-ex", Kind: "openvswitch"},
		}, []int{port}, "(host0, below br-ex)"},
		"lower elsewhere": {[]link.Link{nic, {Index: vlan, Name: "macvlan0", Lower: host, NetNSID: new(int32)}}, []int{vlan}, ""},
		"loop":            {[]link.Link{with(nic, bridge), {Index: bridge, Name: "a", Lower: vlan}, {Index: vlan, Name: "b", Lower: bridge}}, []int{bridge}, "below a"},
		"gone interface":  {[]link.Link{nic}, []int{99}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pools := parse(t, `"includePFs": true, `+selecting(`"drivers": ["igb", "iavf"]`))
			src := source(t, testhost.New(t))
			src.Network = pool.NewNetwork(tc.links, tc.routes)
			a := pool.Assign(read(t, src, pools), pools, nil)
			if tc.why == "" {
				require.Equal(t, [][]string{{testhost.VF0, testhost.NIC}}, ids(a))
				return
			}
			require.Equal(t, [][]string{{testhost.VF0}}, ids(a))
			require.Contains(t, explained(a, pools, testhost.NIC)[0], tc.why)
		})
	}
}

func with(l link.Link, master int) link.Link {
	l.Master = master
	return l
}

func TestAlternativeNames(t *testing.T) {
	t.Parallel()
	pools := parse(t, selecting(`"pfNames": ["enp1s0f0#0"]`))
	src := source(t, testhost.New(t))
	src.Network = pool.NewNetwork([]link.Link{{Index: 2, Name: "pf0", AltNames: []string{"enp1s0f0"}}}, nil)
	require.Equal(t, [][]string{{testhost.VF0}}, ids(pool.Assign(read(t, src, pools), pools, nil)))
}

// A function with two ports is known by the interface of either.
func TestPFWithTwoPorts(t *testing.T) {
	t.Parallel()
	root := testhost.New(t)
	testhost.Netdev(t, root, testhost.PF, "pf0port1")
	for _, name := range []string{"pf0", "pf0port1"} {
		pools := parse(t, selecting(`"pfNames": ["`+name+`#0"]`))
		require.Equal(t, [][]string{{testhost.VF0}}, ids(pool.Assign(read(t, source(t, root), pools), pools, nil)), name)
	}
}

func TestLinkHealth(t *testing.T) {
	t.Parallel()
	const up = 1<<0 | 1<<16 // IFF_UP, IFF_LOWER_UP
	pools := parse(t, `"linkHealth": true, `+selecting(`"pfNames": ["pf0#0"]`), selecting(`"pfNames": ["pf0#1"]`))
	for _, tc := range []struct {
		flags uint32
		want  [][]string
	}{
		{up, [][]string{{testhost.VF0}, {testhost.VF1}}},
		{0, [][]string{{testhost.VF0 + "!"}, {testhost.VF1}}},
	} {
		src := source(t, testhost.New(t))
		src.Network = pool.NewNetwork([]link.Link{{Index: 2, Name: "pf0", Flags: tc.flags}}, nil)
		require.Equal(t, tc.want, ids(pool.Assign(read(t, src, pools), pools, nil)))
	}
}

func TestDevlinkFacts(t *testing.T) {
	t.Parallel()
	pools := parse(t, selecting(`"ddpProfiles": ["GTPv1-C/U IPv4/IPv6 payload"], "pfNames": ["pf0#1"]`), selecting(`"isRdma": true, "pfNames": ["pf0#2"]`))
	src := source(t, testhost.New(t))
	asked := 0
	src.DDP = func(pf libsriov.Function) (string, error) {
		asked++
		if pf.Address.String() == testhost.PF {
			return "GTPv1-C/U IPv4/IPv6 payload", nil
		}
		return "", nil
	}
	src.EnableRDMA = func(a libsriov.Address) (bool, error) { return a.String() == testhost.VF2, nil }
	require.Equal(t, [][]string{{testhost.VF1}, {testhost.VF2}}, ids(pool.Assign(read(t, src, pools), pools, nil)))
	require.Equal(t, 3, asked, "once for each device that is not a VF")
}

func TestRepresentorsDoNotNameThePF(t *testing.T) {
	t.Parallel()
	root := testhost.New(t)
	testhost.Netdev(t, root, testhost.PF, "a_rep0") // sorts before pf0
	testhost.Write(t, root, "sys/class/net/a_rep0/phys_port_name", "pf0vf0")
	testhost.Write(t, root, "sys/class/net/pf0/phys_port_name", "p0")
	pools := parse(t, selecting(`"pfNames": ["pf0#0"]`))
	require.Equal(t, [][]string{{testhost.VF0}}, ids(pool.Assign(read(t, source(t, root), pools), pools, nil)))
}

func TestBrokenDevicesHideNoOthers(t *testing.T) {
	t.Parallel()
	root := testhost.New(t)
	testhost.Write(t, root, "sys/bus/pci/devices/0000:0a:00.0/uevent", "PCI_CLASS=2")
	testhost.Write(t, root, "sys/bus/pci/devices/0000:0b:00.0/uevent", "PCI_CLASS=20000\nPCI_ID=80\n")
	testhost.Function(t, root, "10000:00:00.0", "20000", "8086:1572", "i40e", 0)
	testhost.Function(t, root, "not-an-address", "20000", "8086:1572", "i40e", 0)
	testhost.Link(t, root, "sys/bus/pci/devices/0000:0c:00.0/driver", "../../drivers/gone")
	require.NoError(t, os.Mkdir(filepath.Join(root, "sys/bus/pci/devices/0000:0d:00.0"), 0o755))
	testhost.Link(t, root, "sys/bus/pci/devices/0000:0d:00.0/uevent", "uevent") // cannot be read
	pools := parse(t, selecting(`"drivers": ["iavf", "i40e"]`))
	devices, err := pool.Read(source(t, root), config.NeedsOf(pools))
	for _, broken := range []string{"0000:0a:00.0", "0000:0b:00.0", "not-an-address", "0000:0d:00.0"} {
		require.ErrorContains(t, err, broken)
	}
	require.Equal(t, [][]string{{testhost.VF0, "10000:00:00.0"}}, ids(pool.Assign(devices, pools, nil)))
}

func TestInterfaceThatIsRenamedMeanwhile(t *testing.T) {
	t.Parallel()
	root := testhost.New(t)
	require.NoError(t, os.RemoveAll(filepath.Join(root, "sys/bus/pci/devices", testhost.VF0, "net/vf0/type")))
	pools := parse(t, selecting(`"drivers": ["iavf"], "linkTypes": ["ether"]`), selecting(`"drivers": ["e1000e"]`))
	require.NoError(t, os.RemoveAll(filepath.Join(root, "sys/bus/pci/devices", testhost.ACPI, "net/onboard")))
	devices, err := pool.Read(source(t, root), config.NeedsOf(pools))
	require.ErrorContains(t, err, testhost.ACPI)
	require.Equal(t, [][]string{{testhost.VF0}, {testhost.ACPI}}, ids(pool.Assign(devices, pools, nil)))
}

// What the guides for host-device networks and operators render offers PFs without VFs;
// whoever may need a NIC keeps it.
func TestIdlePFs(t *testing.T) {
	t.Parallel()
	const other = "0000:06:00.0"
	idle := func(t *testing.T, root string) {
		for _, pf := range []string{"0000:05:00.0", other} {
			testhost.Function(t, root, pf, "20000", "15B3:101B", "mlx5_core", 0)
			testhost.SetVFs(t, root, pf)
			testhost.RDMA(t, root, pf, "mlx5_"+pf[6:7], int(pf[6]-'0'))
			testhost.Write(t, root, "sys/bus/pci/devices/"+pf+"/sriov_vf_device", "101c")
		}
	}
	oneWithVFs := func(t *testing.T, root string) {
		idle(t, root)
		testhost.Function(t, root, "0000:06:00.1", "20000", "15B3:101C", "mlx5_core", 0)
		testhost.SetVFs(t, root, other, "0000:06:00.1")
		testhost.RDMA(t, root, "0000:06:00.1", "mlx5_9", 9)
	}
	sameNumber := func(t *testing.T, root string) {
		idle(t, root)
		testhost.Write(t, root, "sys/bus/pci/devices/"+other+"/sriov_vf_device", "101b")
	}
	both, none := []string{"0000:05:00.0", other}, []string{}
	for name, tc := range map[string]struct {
		host func(t *testing.T, root string)
		pool string
		want []string
	}{
		"host-device guide":                     {idle, selecting(`"vendors": ["15b3"], "isRdma": true`), both},
		"host-device guide beside VFs":          {oneWithVFs, selecting(`"vendors": ["15b3"], "isRdma": true`), []string{"0000:06:00.1"}},
		"their own device number":               {idle, selecting(`"vendors": ["15b3"], "devices": ["101b"]`), both},
		"their own device number, beside VFs":   {oneWithVFs, selecting(`"devices": ["101b", "101c"]`), []string{"0000:05:00.0", "0000:06:00.1"}},
		"a device number that VFs have as well": {sameNumber, selecting(`"devices": ["101b"]`), none},
		"address":                               {idle, selecting(`"pciAddresses": ["06:00.0"]`), []string{other}},
		"asked for":                             {idle, selecting(`"vendors": ["15b3"]`) + `, "includePFs": true`, both},
		"vendor alone":                          {idle, selecting(`"vendors": ["15b3"]`), none},
		"driver alone":                          {idle, selecting(`"drivers": ["mlx5_core"]`), none},
		"VFs only":                              {idle, selecting(`"vendors": ["15b3"], "isRdma": true, "isVf": true`), none},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := testhost.New(t)
			tc.host(t, root)
			pools := parse(t, tc.pool)
			a := pool.Assign(read(t, source(t, root), pools), pools, nil)
			require.Equal(t, [][]string{tc.want}, ids(a))
			if name == "vendor alone" {
				require.Equal(t, map[config.Resource]int{pools[0].Resource: 2}, a.IdlePFs(pools))
			}
		})
	}
}

// The shipped sample takes VFs; a NIC whose firmware has SR-IOV off is none, whatever its
// driver.
func TestVFsOnly(t *testing.T) {
	t.Parallel()
	root := testhost.New(t)
	testhost.Function(t, root, "0000:05:00.0", "20000", "15B3:101B", "mlx5_core", 0)
	testhost.Function(t, root, testhost.VF3, "20000", "15B3:101C", "mlx5_core", 0)
	pools := parse(t, selecting(`"drivers": ["mlx5_core"], "isVf": true`))
	a := pool.Assign(read(t, source(t, root), pools), pools, nil)
	require.Equal(t, [][]string{{testhost.VF3}}, ids(a))
	require.Contains(t, explained(a, pools, "0000:05:00.0")[0], "isVf: is no VF of a PF in sight")
}
