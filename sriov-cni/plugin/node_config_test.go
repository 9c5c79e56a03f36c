// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/sriov-cni/vf"
)

// While the node's configuration is invalid, ADD cannot check that the device is the pod's and
// fails; DEL works.
func TestDamagedNodeConfiguration(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "sys/bus/pci/devices"), 0o700))
	path := filepath.Join(root, vf.NodeConfigPath)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	p := &Plugin{Root: root, StateDir: filepath.Join(root, "state"), Stdout: io.Discard, Stderr: io.Discard}
	args := &skel.CmdArgs{
		ContainerID: "c0ffee", IfName: "net1",
		StdinData: []byte(`{"cniVersion":"1.0.0","name":"n","type":"sriov","deviceID":"0000:01:10.0"}`),
	}
	for text, why := range map[string]string{
		`{"kubeletDirectory":"/var/lib/k0s/kubelet","ipamPaths":["opt/x"]}`: `"opt/x"`,
		`{"kubeletDirectory":7}`: "kubeletDirectory",
		`{`:                      "unexpected EOF",
		`{}}`:                    "something follows",
		`{"only_given":true}`:    "only_given",
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		var err *types.Error
		require.ErrorAs(t, p.Funcs(t.Context()).Add(args), &err)
		require.EqualValues(t, types.ErrIOFailure, err.Code)
		require.Contains(t, err.Msg+err.Details, vf.NodeConfigPath)
		require.Contains(t, err.Msg+err.Details, why)
		require.NoError(t, p.Funcs(t.Context()).Del(args))
		require.ErrorAs(t, p.Funcs(t.Context()).Status(args), &err)
		require.EqualValues(t, 50, err.Code)
	}
}
