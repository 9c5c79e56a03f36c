// SPDX-License-Identifier: Apache-2.0

package libsriov_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

func switchdev(t *testing.T) (*libsriov.Host, libsriov.PF) {
	t.Helper()
	h, err := libsriov.Open(sriovtest.Captured(t, "switchdev"))
	require.NoError(t, err)
	s, err := h.Snapshot()
	require.NoError(t, err)
	require.Len(t, s.PFs, 1)
	return h, s.PFs[0]
}

func TestUplinkIsNotARepresentor(t *testing.T) {
	t.Parallel()
	h, pf := switchdev(t)
	require.Equal(t, []string{"ens1np0", "eth0", "eth1"}, pf.Netdevs)
	uplink, err := h.Uplink(pf.Function)
	require.NoError(t, err)
	assert.Equal(t, "ens1np0", uplink)

	onlyRepresentors := pf.Function
	onlyRepresentors.Netdevs = []string{"eth0", "eth1"}
	_, err = h.Uplink(onlyRepresentors)
	assert.ErrorIs(t, err, libsriov.ErrNoNetdev)
	_, err = h.Uplink(libsriov.Function{})
	assert.ErrorIs(t, err, libsriov.ErrNoNetdev)
}

func TestSubFunctionsKeepWhatIsTheirs(t *testing.T) {
	t.Parallel()
	h, pf := switchdev(t)
	require.Equal(t, []libsriov.Aux{{Name: "mlx5_core.sf.4", Netdevs: []string{"ens1f0s88"}, RDMA: []string{"mlx5_4"}}}, pf.Aux)
	assert.Equal(t, "sf", pf.Aux[0].Kind())
	assert.Equal(t, []string{"mlx5_0"}, pf.RDMA)
	n, err := h.SFNum("mlx5_core.sf.4")
	require.NoError(t, err)
	assert.EqualValues(t, 88, n)
}

func TestRDMANodes(t *testing.T) {
	t.Parallel()
	h, pf := switchdev(t)
	nodes, _, err := h.RDMANodes(nil, pf.VFs[0].RDMA...)
	require.NoError(t, err)
	assert.Equal(t, []libsriov.RDMANode{
		{Kind: "issm", Path: "/dev/infiniband/issm2"}, {Kind: "umad", Path: "/dev/infiniband/umad2"}, {Kind: "uverbs", Path: "/dev/infiniband/uverbs2"},
	}, nodes)

	// What was known is checked: a device that was numbered anew has other nodes.
	known, err := h.RDMATable()
	require.NoError(t, err)
	same, _, err := h.RDMANodes(known, pf.VFs[0].RDMA...)
	require.NoError(t, err)
	assert.Equal(t, nodes, same)
	for _, wrong := range []libsriov.RDMATable{
		{}, {pf.VFs[0].RDMA[0]: known[pf.RDMA[0]]}, {pf.VFs[0].RDMA[0]: {{Kind: "uverbs", Path: "/dev/infiniband/uverbs99"}}},
	} {
		now, _, err := h.RDMANodes(wrong, pf.VFs[0].RDMA...)
		require.NoError(t, err)
		assert.Equal(t, nodes, now)
	}
}

func TestVDPA(t *testing.T) {
	t.Parallel()
	h, pf := switchdev(t)
	require.Equal(t, []string{"vdpa0"}, pf.VFs[1].VDPA)
	v, err := h.VDPA("vdpa0")
	require.NoError(t, err)
	assert.Equal(t, libsriov.VDPA{Name: "vdpa0", Driver: libsriov.VDPAVhost, Node: "/dev/vhost-vdpa-0"}, v)
	for _, name := range []string{"vdpa9", "", "../vdpa0"} {
		_, err = h.VDPA(name)
		assert.ErrorIs(t, err, libsriov.ErrNoDevice, "%q", name)
	}
}

func TestLinkSpeed(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, sriovtest.Unpack(root, "sys/bus/pci/rescan\n\t1\nsys/class/net/fast/speed\n\t100000\nsys/class/net/unknown/speed\n\t-1\nsys/class/net/silent/mtu\n\t1500\n"))
	h, err := libsriov.Open(root)
	require.NoError(t, err)
	for name, want := range map[string]int{"fast": 100000, "unknown": 0, "silent": 0} {
		mbits, ok, err := h.LinkSpeed(name)
		require.NoError(t, err, name)
		assert.Equal(t, want, mbits, name)
		assert.Equal(t, want > 0, ok, name)
	}
	_, _, err = h.LinkSpeed("../../etc")
	assert.ErrorContains(t, err, "not an interface name")
}

func TestLinkTypes(t *testing.T) {
	t.Parallel()
	h, _ := switchdev(t)
	lt, err := h.LinkType("ens1np0")
	require.NoError(t, err)
	assert.Equal(t, "ether", lt.String())
	assert.Equal(t, "infiniband", libsriov.LinkInfiniBand.String())
	assert.Equal(t, "arphrd-772", libsriov.LinkType(772).String())
}
