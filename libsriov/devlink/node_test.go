// SPDX-License-Identifier: Apache-2.0

//go:build linux

package devlink_test

import (
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov/devlink"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

func TestNodeEswitch(t *testing.T) {
	sriovtest.NeedNode(t)
	require.NoError(t, os.WriteFile("/sys/bus/netdevsim/new_device", []byte("78 1"), 0))
	t.Cleanup(func() { require.NoError(t, os.WriteFile("/sys/bus/netdevsim/del_device", []byte("78"), 0)) })
	require.NoError(t, os.WriteFile("/sys/bus/netdevsim/devices/netdevsim78/sriov_numvfs", []byte("2"), 0))
	c, err := devlink.Open()
	require.NoError(t, err)
	defer c.Close()
	device := devlink.Device{Bus: "netdevsim", Name: "netdevsim78"}
	mode, err := c.Mode(device)
	require.NoError(t, err)
	assert.Equal(t, devlink.Legacy, mode)
	ports, err := c.Ports()
	require.NoError(t, err)
	isRepresentor := func(p devlink.Port) bool { return p.Device == device && p.Flavour == devlink.PCIVF && p.VF == 1 }
	require.False(t, slices.ContainsFunc(ports, isRepresentor))

	require.NoError(t, c.SetMode(device, devlink.Switchdev))
	mode, err = c.Mode(device)
	require.NoError(t, err)
	assert.Equal(t, devlink.Switchdev, mode)
	ports, err = c.Ports()
	require.NoError(t, err)
	i := slices.IndexFunc(ports, isRepresentor)
	require.GreaterOrEqual(t, i, 0)
	p := ports[i]
	assert.NotEmpty(t, p.Netdev)
	assert.NotZero(t, p.IfIndex)
	port, err := os.ReadFile("/sys/class/net/" + p.Netdev + "/phys_port_name")
	require.NoError(t, err)
	assert.Equal(t, "pf0vf1\n", string(port))
	require.NoError(t, c.SetMode(device, devlink.Legacy))

	on, err := c.BoolParam(device, "test1")
	require.NoError(t, err)
	assert.True(t, on)
	versions, err := c.Versions(device)
	require.NoError(t, err)
	t.Log(versions)
}

// igb does not register with devlink, which is not a failure to ask.
func TestNodeDeviceWithoutDevlink(t *testing.T) {
	_, pfs := sriovtest.NodePFs(t)
	c, err := devlink.Open()
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Mode(devlink.PCI(pfs[0].Address))
	assert.ErrorIs(t, err, devlink.ErrNotSupported)
	assert.ErrorIs(t, c.SetMode(devlink.PCI(pfs[0].Address), devlink.Switchdev), devlink.ErrNotSupported)
	_, err = c.BoolParam(devlink.PCI(pfs[0].Address), "enable_rdma")
	assert.ErrorIs(t, err, devlink.ErrNotSupported)
	_, err = c.Versions(devlink.PCI(pfs[0].Address))
	assert.ErrorIs(t, err, devlink.ErrNotSupported)
}

func TestParseMode(t *testing.T) {
	t.Parallel()
	m, err := devlink.ParseMode("switchdev")
	require.NoError(t, err)
	assert.Equal(t, devlink.Switchdev, m)
	_, err = devlink.ParseMode("Legacy")
	assert.ErrorContains(t, err, "want legacy or switchdev")
}
