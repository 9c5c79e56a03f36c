package vdpa_test

import (
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/sriovkit/sriovkit/libsriov/vdpa"
)

func TestNodeVDPA(t *testing.T) {
	sriovtest.NeedNode(t)
	parents, err := vdpa.Parents()
	require.NoError(t, err)
	simulator := vdpa.Parent{Name: "vdpasim_net"}
	require.Contains(t, parents, simulator)
	h, err := libsriov.Open("/")
	require.NoError(t, err)

	require.NoError(t, vdpa.Add("test0", simulator, net.HardwareAddr{2, 0, 0, 0, 0, 1}))
	v, err := h.VDPA("test0")
	require.NoError(t, err)
	switch v.Driver {
	case libsriov.VDPAVhost:
		assert.FileExists(t, v.Node)
	case libsriov.VDPAVirtio:
		assert.NotEmpty(t, v.Netdev)
	default:
		t.Errorf("driver %q", v.Driver)
	}
	require.Error(t, vdpa.Add("test0", simulator, nil), "the name is taken")
	require.NoError(t, vdpa.Delete("test0"))
	_, err = h.VDPA("test0")
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, vdpa.Delete("test0"), "delete vDPA device test0")
}
