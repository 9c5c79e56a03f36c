// SPDX-License-Identifier: Apache-2.0

package pool_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/internal/testhost"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/stretchr/testify/require"
)

func TestHeldDevicesStay(t *testing.T) {
	t.Parallel()
	pools := parse(t, selecting(`"drivers": ["iavf"]`), selecting(`"linkTypes": ["ether"], "drivers": ["igbvf"]`), selecting(`"isRdma": true`))
	const inVM = "0000:05:00.0" // a VF without a PF in sight
	root := testhost.New(t)
	testhost.Function(t, root, inVM, "20000", "8086:10CA", "igbvf", 0)
	devices := read(t, source(t, root), pools) // its interface is in a pod
	require.Equal(t, [][]string{{testhost.VF0}, {}, {}}, ids(pool.Assign(devices, pools, nil)))

	a := pool.Assign(devices, pools, map[string]pool.Holder{
		testhost.VF0: holds("of-another-time"), // a resource that is no more
		inVM:         holds("b"),
		testhost.VF1: holds("c"), // its RDMA device is in the pod as well
	})
	require.Equal(t, [][]string{{}, {inVM}, {testhost.VF1}}, ids(a))
	require.Contains(t, explained(a, pools, testhost.VF0)[0], "in use by a pod as a device of another resource")
}

func TestRecall(t *testing.T) {
	t.Parallel()
	root := testhost.New(t)
	const inVM = "0000:05:00.0"
	testhost.Function(t, root, inVM, "20000", "8086:10CA", "igbvf", 0)
	testhost.Netdev(t, root, inVM, "eth5")
	pools := parse(t, selecting(`"linkTypes": ["ether"], "drivers": ["igbvf"]`))
	before := read(t, source(t, root), pools)
	testhost.RemoveNetdev(t, root, inVM, "eth5")
	now := read(t, source(t, root), pools)
	require.Equal(t, [][]string{{}}, ids(pool.Assign(now, pools, nil)))
	require.Equal(t, [][]string{{inVM}}, ids(pool.Assign(pool.Recall(now, before, nil), pools, nil)))
}

func holds(name string) pool.Holder {
	return pool.Holder{Resource: config.Resource{Prefix: "example.com", Name: name}}
}

// What cannot be read stays as it was; what is gone is gone.
func TestRecallOfWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		harm func(t *testing.T, root string)
		want []string
	}{
		"VF unreadable": {func(t *testing.T, root string) {
			require.NoError(t, os.Remove(filepath.Join(root, "sys/bus/pci/devices", testhost.VF1, "uevent")))
			require.NoError(t, os.Mkdir(filepath.Join(root, "sys/bus/pci/devices", testhost.VF1, "uevent"), 0o755))
		}, []string{testhost.VF0, testhost.VF1, testhost.VF2, testhost.VF3}},
		"PF unreadable": {func(t *testing.T, root string) {
			testhost.Write(t, root, "sys/bus/pci/devices/"+testhost.PF+"/sriov_numvfs", "?")
		}, []string{testhost.VF0, testhost.VF1, testhost.VF2, testhost.VF3}},
		"NUMA node of the PF unreadable": {func(t *testing.T, root string) {
			testhost.Write(t, root, "sys/bus/pci/devices/"+testhost.PF+"/numa_node", "?")
		}, []string{testhost.VF0, testhost.VF1, testhost.VF2, testhost.VF3}},
		"link type unreadable": {func(t *testing.T, root string) {
			testhost.Write(t, root, "sys/bus/pci/devices/"+testhost.PF+"/net/pf0/type", "?")
		}, []string{testhost.VF0, testhost.VF1, testhost.VF2, testhost.VF3}},
		"VF gone": {func(t *testing.T, root string) { testhost.Remove(t, root, testhost.VF1) },
			[]string{testhost.VF0, testhost.VF2, testhost.VF3}},
		"VFs gone": {func(t *testing.T, root string) { testhost.SetVFs(t, root, testhost.PF) }, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := testhost.New(t)
			pools := parse(t, selecting(`"pfNames": ["pf0"], "linkTypes": ["ether"]`))
			before := read(t, source(t, root), pools)
			tc.harm(t, root)
			now, err := pool.Read(source(t, root), config.NeedsOf(pools))
			require.Error(t, err)
			now = pool.Recall(now, before, err)
			require.Equal(t, [][]string{tc.want}, ids(pool.Assign(now, pools, nil)))
		})
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	root := testhost.New(t)
	pools := parse(t, selecting(`"pfNames": ["pf0"]`))
	before := map[config.Resource][]pool.Member{pools[0].Resource: pool.Assign(read(t, source(t, root), pools), pools, nil).Members[0]}
	testhost.SetVFs(t, root, testhost.PF)
	for _, vf := range []string{testhost.VF0, testhost.VF1, testhost.VF2, testhost.VF3} {
		testhost.Remove(t, root, vf)
	}
	devices := read(t, source(t, root), pools)
	for name, known := range map[string]map[config.Resource][]pool.Member{"known": before, "since before the start": nil} {
		a := pool.Assign(devices, pools, nil)
		require.Empty(t, a.Members[0])
		held := map[string]pool.Holder{testhost.VF1: {Resource: pools[0].Resource}, testhost.VF2: holds("other"), testhost.VF3: {Claim: "ns/c"}}
		require.Equal(t, 1, a.Keep(devices, pools, known, held), name)
		require.Equal(t, [][]string{{testhost.VF1 + "!"}}, ids(a), name)
		require.Equal(t, testhost.VF1, a.Members[0][0].Address.String())
	}
}

// A device that a claim has is nobody's else.
func TestClaimedDevice(t *testing.T) {
	t.Parallel()
	pools := parse(t, selecting(`"pfNames": ["pf0#0-1"]`))
	a := pool.Assign(read(t, source(t, testhost.New(t)), pools), pools, map[string]pool.Holder{testhost.VF0: {Claim: "ns/c"}})
	require.Equal(t, [][]string{{testhost.VF1}}, ids(a))
}
