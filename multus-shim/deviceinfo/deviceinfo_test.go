// SPDX-License-Identifier: Apache-2.0

package deviceinfo

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCopyReadRemove(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "cni", "ns-net-c_net1")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "dp"), 0o755))
	const info = `{"type":"pci","version":"1.1.0","pci":{"pci-address":"0000:01:00.1"}}`
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dp", "intel.com-vf-0000:01:00.1-device.json"), []byte(info), 0o644))

	require.NoError(t, Prepare(dir, "intel.com/vf", "0000:01:00.1", path))
	got, err := Read(path)
	require.NoError(t, err)
	assert.JSONEq(t, info, string(got))

	require.NoError(t, Prepare(dir, "intel.com/vf", "0000:01:00.2", path), "no file of the device plugin")
	got, err = Read(path)
	require.NoError(t, err)
	assert.Nil(t, got, "what an earlier attempt left is gone")

	require.NoError(t, Prepare(dir, "", "x", path), "a device the pod chose itself")
	require.NoError(t, Remove(path))

	require.NoError(t, os.WriteFile(path, []byte(`{"type":"pci"}`), 0o644))
	_, err = Read(path)
	require.ErrorContains(t, err, `version ""`)
	require.NoError(t, os.WriteFile(path, []byte(`x`), 0o644))
	_, err = Read(path)
	require.Error(t, err)
}

func TestNamesDoNotLeaveTheDirectory(t *testing.T) {
	t.Parallel()
	path, err := devicePluginFile("/d", "../../etc", "../shadow")
	require.NoError(t, err)
	assert.Equal(t, "/d/dp/..-..-etc-..-shadow-device.json", path)
	_, err = devicePluginFile("/d", "a", "b\x00c")
	require.Error(t, err)
}
