// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
)

// modules is a host whose kernel has modules.dep and modules.builtin of this content.
func modules(t *testing.T, dep, builtin string) *Machine {
	root := t.TempDir()
	var name unix.Utsname
	require.NoError(t, unix.Uname(&name))
	dir := filepath.Join(root, "usr/lib/modules", unix.ByteSliceToString(name.Release[:]))
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "modules.dep"), []byte(dep), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "modules.builtin"), []byte(builtin), 0o600))
	return &Machine{Files: Files{Root: root}}
}

func TestModules(t *testing.T) {
	m := modules(t, "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/vfio.ko.xz\n", "kernel/drivers/net/dummy.ko\n")
	require.NoError(t, m.loadModule(t.Context(), "dummy"), "built in")
	require.ErrorContains(t, m.loadModule(t.Context(), "no-such"), "has none of that name: install it on the node")
	require.ErrorContains(t, m.loadModule(t.Context(), "vfio-pci"), "vfio.ko.xz", "what it needs comes first")

	require.NoError(t, os.MkdirAll(filepath.Join(m.Files.Root, "sys/module/vfio_pci"), 0o755))
	require.NoError(t, m.loadModule(t.Context(), "vfio-pci"), "loaded")
}

// Modules are loaded on a host without modprobe, too.
func TestNodeModuleWithoutModprobe(t *testing.T) {
	sriovtest.NeedNode(t)
	m := &Machine{Files: Files{Root: "/"}}
	dir, err := m.modulesDir()
	require.NoError(t, err)
	for _, module := range []string{"netdevsim", "vfio-pci", "dummy"} {
		known := false
		require.NoError(t, eachLine(filepath.Join(dir, "modules.dep"), func(line string) {
			file, _, _ := strings.Cut(line, ":")
			known = known || moduleName(file) == underscored(module)
		}))
		if !known {
			continue
		}
		_ = unix.DeleteModule(underscored(module), unix.O_NONBLOCK) // whoever uses it keeps it
		require.NoError(t, m.insertModule(module))
		require.DirExists(t, "/sys/module/"+underscored(module))
		require.NoError(t, m.insertModule(module), "twice is no error")
		return
	}
	t.Fatal("the node has none of these modules")
}
