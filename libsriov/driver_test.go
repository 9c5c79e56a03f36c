// SPDX-License-Identifier: Apache-2.0

package libsriov_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

// refusals plays a kernel on a generated tree whose new driver takes nothing.
// It keeps the writes, and moves the driver link as unbind and probe do.
type refusals struct {
	t      *testing.T
	root   string
	probe  map[string]error // by driver_override at the time of the probe
	writes []string
}

const vf = "0000:01:01.0"

func (r *refusals) write(path, value string) error {
	r.writes = append(r.writes, filepath.Base(path)+"="+value)
	dir := filepath.Join(r.root, "sys/bus/pci/devices", vf)
	switch filepath.Base(path) {
	case "driver_override":
		require.NoError(r.t, os.WriteFile(filepath.Join(dir, "driver_override"), []byte(value), 0o644))
	case "unbind":
		require.NoError(r.t, os.Remove(filepath.Join(dir, "driver")))
	case "drivers_probe":
		override, err := os.ReadFile(filepath.Join(dir, "driver_override"))
		require.NoError(r.t, err)
		if err, refused := r.probe[string(override)]; refused {
			return err
		}
		require.NoError(r.t, os.Symlink("../../../bus/pci/drivers/iavf", filepath.Join(dir, "driver")))
	}
	return nil
}

// A driver that does not take the function must leave it where it was.
func TestBindDriverGivesTheFunctionBack(t *testing.T) {
	t.Parallel()
	for name, errno := range map[string]error{"silently": nil, "EINVAL": syscall.EINVAL, "ENODEV": syscall.ENODEV} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			require.NoError(t, sriovtest.Unpack(root, sriovtest.Generate(sriovtest.Spec{PFs: 1, VFs: 1})+"sys/bus/pci/drivers/vfio-pci/\n"))
			r := &refusals{t: t, root: root, probe: map[string]error{"vfio-pci\n": errno}}
			h := sriovtest.Refusing(root, r.write)
			err := h.BindDriver(t.Context(), mustAddress(t, vf), "vfio-pci")
			require.ErrorIs(t, err, libsriov.ErrNoDriver)
			assert.ErrorContains(t, err, "bind 0000:01:01.0 to vfio-pci")
			assert.Equal(t, []string{
				"driver_override=vfio-pci\n", "unbind=" + vf, "drivers_probe=" + vf, "driver_override=\n", "drivers_probe=" + vf,
			}, r.writes)
			driver, err := h.Driver(mustAddress(t, vf))
			require.NoError(t, err)
			assert.Equal(t, "iavf", driver)
		})
	}
}

func TestBindDriverRefusesBeforeItTouches(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, sriovtest.Unpack(root, sriovtest.Generate(sriovtest.Spec{PFs: 1, VFs: 1})))
	h := sriovtest.Refusing(root, func(path, value string) error {
		t.Errorf("write of %q to %s", value, path)
		return nil
	})
	for driver, want := range map[string]string{
		"vfio-pci": "try: modprobe vfio-pci", "": "not a driver name", "../x": "not a driver name", "a\nb": "not a driver name",
	} {
		assert.ErrorContains(t, h.BindDriver(t.Context(), mustAddress(t, vf), driver), want)
	}
	assert.NoError(t, h.BindDriver(t.Context(), mustAddress(t, vf), "iavf"), "it has that one")
	assert.ErrorIs(t, h.BindDriver(t.Context(), mustAddress(t, "0000:09:00.0"), "vfio-pci"), libsriov.ErrNoDevice)
}

func TestDeviceNodes(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, sriovtest.Unpack(root, sriovtest.Generate(sriovtest.Spec{PFs: 1, VFs: 2, VFDriver: "vfio-pci"})+`
sys/kernel/iommu_groups/101/name
	vfio-noiommu
sys/devices/pci0000:00/0000:01:01.0/uio/uio3/
`))
	h, err := libsriov.Open(root)
	require.NoError(t, err)
	node, err := h.VFIONode(mustAddress(t, "0000:01:01.0"))
	require.NoError(t, err)
	assert.Equal(t, libsriov.DeviceNode{Host: "/dev/vfio/100", Container: "/dev/vfio/100"}, node)
	node, err = h.VFIONode(mustAddress(t, "0000:01:01.1"))
	require.NoError(t, err)
	assert.Equal(t, libsriov.DeviceNode{Host: "/dev/vfio/noiommu-101", Container: "/dev/vfio/101"}, node)
	_, err = h.VFIONode(mustAddress(t, "0000:01:00.0"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, "IOMMU")
	node, err = h.UIONode(mustAddress(t, "0000:01:01.0"))
	require.NoError(t, err)
	assert.Equal(t, "/dev/uio3", node.Host)
	_, err = h.UIONode(mustAddress(t, "0000:01:01.1"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func mustAddress(t *testing.T, s string) libsriov.Address {
	t.Helper()
	a, err := libsriov.ParseAddress(s)
	require.NoError(t, err)
	return a
}
