// SPDX-License-Identifier: Apache-2.0

// Package noiommu_test checks userspace drivers on a node without an IOMMU whose kernel
// has vfio's no-IOMMU mode, as virtual machines of clouds have.
package noiommu_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

// Requests and types of linux/vfio.h.
const (
	vfioSetIOMMU          = 0x3b66
	vfioGroupSetContainer = 0x3b68
	vfioGroupGetDevice    = 0x3b6a
	vfioNoIOMMU           = 8
)

// TestNodeNoIOMMU refuses a VF to vfio-pci while the mode is off, and opens it with the
// mode on, as a driver in a pod does.
func TestNodeNoIOMMU(t *testing.T) {
	h, pf := sriovtest.NodeVFs(t, 1)
	vf := pf.VFs[0].Address
	_, ok, err := h.IOMMUGroup(vf)
	require.NoError(t, err)
	require.False(t, ok, "the node has an IOMMU")
	require.Error(t, h.BindDriver(t.Context(), vf, "vfio-pci"), "the mode is off")

	const mode = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
	require.NoError(t, os.WriteFile(mode, []byte("Y"), 0))
	t.Cleanup(func() { require.NoError(t, os.WriteFile(mode, []byte("N"), 0)) })
	require.NoError(t, h.BindDriver(t.Context(), vf, "vfio-pci"))
	t.Cleanup(func() { require.NoError(t, h.ResetDriver(context.WithoutCancel(t.Context()), vf)) })
	node, err := h.VFIONode(vf)
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(filepath.Base(node.Host), "noiommu-"), node.Host)
	assert.NotContains(t, node.Container, "noiommu", "where DPDK looks for it")

	group := open(t, node.Host)
	container := open(t, "/dev/vfio/vfio")
	fd := int32(container)
	_, err = ioctl(group, vfioGroupSetContainer, uintptr(unsafe.Pointer(&fd)))
	require.NoError(t, err)
	_, err = ioctl(container, vfioSetIOMMU, vfioNoIOMMU)
	require.NoError(t, err)
	name := append([]byte(vf.String()), 0)
	device, err := ioctl(group, vfioGroupGetDevice, uintptr(unsafe.Pointer(&name[0])))
	require.NoError(t, err)
	require.NoError(t, unix.Close(device))
}

func open(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err, path)
	t.Cleanup(func() { require.NoError(t, unix.Close(fd)) })
	return fd
}

func ioctl(fd int, request, argument uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, argument)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}
