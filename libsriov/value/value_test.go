// SPDX-License-Identifier: Apache-2.0

package value_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/libsriov/value"
)

func TestDriverKind(t *testing.T) {
	t.Parallel()
	for driver, want := range map[string]value.DriverKind{
		"": value.NoDriver, "iavf": value.Kernel, "mlx5_core": value.Kernel, "igbvf": value.Kernel, "virtio-pci": value.Kernel,
		"vfio-pci": value.VFIO, "mlx5_vfio_pci": value.VFIO, "hisi_acc_vfio_pci": value.VFIO, "nvgrace-gpu-vfio-pci": value.VFIO,
		"qat_vfio_pci": value.VFIO, "not_vfio_pci_at_all": value.Kernel,
		"uio_pci_generic": value.UIO, "igb_uio": value.UIO, "uio_hv_generic": value.UIO,
		"pci-stub": value.Stub, "pciback": value.Stub,
	} {
		got := value.DriverKindOf(driver)
		assert.Equal(t, want, got, driver)
		assert.Equal(t, want == value.VFIO || want == value.UIO, got.Userspace(), driver)
	}
}

func TestGUID(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"02:00:00:00:00:00:00:01", "0200000000000001"} {
		g, err := value.ParseGUID(s)
		require.NoError(t, err)
		assert.Equal(t, value.GUID(0x0200000000000001), g)
		assert.Equal(t, "02:00:00:00:00:00:00:01", g.String())
	}
	for _, s := range []string{"", "02:00:00:00:00:00:00", "02-00-00-00-00-00-00-01", "zz:00:00:00:00:00:00:01", "02:00:00:00:00:00:00:01 ", "020000000000000", "02:00:00:00:00:00:0001:"} {
		_, err := value.ParseGUID(s)
		assert.ErrorIs(t, err, value.ErrBadGUID, "%q", s)
	}
}

func TestNoMAC(t *testing.T) {
	t.Parallel()
	for mac, want := range map[string]bool{"": true, "\x00\x00\x00\x00\x00\x00": true, "\x00\x00\x00\x00\x00\x01": false, "\x02\x00\x00\x00\x00\x00": false} {
		assert.Equal(t, want, value.NoMAC([]byte(mac)), "%x", mac)
	}
}
