// SPDX-License-Identifier: Apache-2.0

package vf

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// checkpoint is as kubelet 1.34 writes it, cut to what matters.
const checkpoint = `{"Data":{"PodDeviceEntries":[
 {"PodUID":"aaa","ContainerName":"c","ResourceName":"x/y","DeviceIDs":{"-1":["0000:af:06.0"],"0":["0000:af:06.1"]},"AllocResp":"Q0NM"},
 {"PodUID":"bbb","ContainerName":"c","ResourceName":"x/y","DeviceIDs":{"0":["0000:af:06.2"]},"AllocResp":""}],
 "RegisteredDevices":{"x/y":["0000:af:06.0","0000:af:06.1","0000:af:06.2","0000:af:06.3"]}},"Checksum":1}`

func put(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

func TestAnotherPodsDeviceIsRefused(t *testing.T) {
	t.Parallel()
	h := &Host{Root: t.TempDir()}
	var err error
	h.Node, err = ReadNodeConfig(h.Root)
	require.NoError(t, err)
	first := libsriov.Address{Bus: 0xaf, Device: 6}
	require.NoError(t, h.RefuseForeign(first, "zzz"), "without kubelet nothing is known")
	const record = "var/lib/kubelet/device-plugins/kubelet_internal_checkpoint"
	require.NoError(t, os.MkdirAll(filepath.Join(h.Root, record), 0o700))
	require.ErrorContains(t, h.RefuseForeign(first, "zzz"), "kubelet's record of devices: ", "what cannot be read may name another")
	require.NoError(t, os.Remove(filepath.Join(h.Root, record)))
	put(t, h.Root, record, checkpoint)
	for name, tc := range map[string]struct {
		function uint8
		pod      string
		refused  bool
	}{
		"its own":              {pod: "aaa"},
		"another's":            {pod: "bbb", refused: true},
		"another's, elsewhere": {function: 2, pod: "aaa", refused: true},
		"nobody's":             {function: 3, pod: "aaa"},
		"no device of pools":   {function: 4, pod: "aaa"},
		"who asks is not said": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := first
			a.Function = tc.function
			err := h.RefuseForeign(a, tc.pod)
			if tc.refused {
				assert.ErrorContains(t, err, "was given to pod")
			} else {
				assert.NoError(t, err)
			}
		})
	}
}

// Kubelet's record lists pods that have ended until it is written again, which without a
// device plugin may be never.
func TestEndedPodKeepsNoDevice(t *testing.T) {
	t.Parallel()
	h := &Host{Root: t.TempDir()}
	var err error
	h.Node, err = ReadNodeConfig(h.Root)
	require.NoError(t, err)
	put(t, h.Root, "var/lib/kubelet/device-plugins/kubelet_internal_checkpoint", checkpoint)
	a := libsriov.Address{Bus: 0xaf, Device: 6}
	require.Error(t, h.RefuseForeign(a, "bbb"), "whether its pod has ended is not known")
	put(t, h.Root, "var/lib/kubelet/pods/bbb/etc-hosts", "")
	require.NoError(t, h.RefuseForeign(a, "bbb"), "its pod aaa has ended")
	put(t, h.Root, "var/lib/kubelet/pods/aaa/etc-hosts", "")
	require.Error(t, h.RefuseForeign(a, "bbb"))
}

func TestFunctionWithoutPhysfn(t *testing.T) {
	t.Parallel()
	a := libsriov.Address{Bus: 0xaf, Device: 6, Function: 3}
	for name, tc := range map[string]struct {
		file, text string
		allowed    bool
	}{
		"nobody knows it":             {file: "x", text: "x"},
		"device-info file":            {file: deviceInfoDir + "/x-y-0000:af:06.3-device.json", text: "{}", allowed: true},
		"device-info file of another": {file: deviceInfoDir + "/x-y-0000:af:06.2-device.json", text: "{}"},
		"registered with kubelet":     {file: "var/lib/kubelet/device-plugins/kubelet_internal_checkpoint", text: checkpoint, allowed: true},
		"damaged record of kubelet":   {file: "var/lib/kubelet/device-plugins/kubelet_internal_checkpoint", text: `{"0000:af:06.3":`},
		"listed":                      {file: NodeConfigPath, text: `{"functions":["0000:af:06.3"]}`, allowed: true},
		"another listed":              {file: NodeConfigPath, text: `{"functions":["0000:af:06.0"]}`},
		"list damaged":                {file: NodeConfigPath, text: `{"functions":["0000:af:06.3"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &Host{Root: t.TempDir()}
			put(t, h.Root, tc.file, tc.text)
			h.Node, _ = ReadNodeConfig(h.Root)
			err := h.RefuseUnlisted(a)
			if tc.allowed {
				assert.NoError(t, err)
				return
			}
			assert.ErrorContains(t, err, "failed to get VF information")
			assert.ErrorContains(t, err, a.String())
		})
	}
}

func TestUpperInterfaceIsHostUse(t *testing.T) {
	t.Parallel()
	root, a := t.TempDir(), libsriov.Address{Bus: 0xaf, Device: 6}
	const dir = "sys/bus/pci/devices/0000:af:06.0/net/eth7"
	put(t, root, dir+"/upper_bond0/x", "")
	put(t, root, dir+"/ifindex", "7\n")
	h, err := Open(root, NodeConfig{})
	require.NoError(t, err)
	assert.ErrorContains(t, h.RefuseHostUse(nil, a, link.Link{Name: "eth7"}), "in use by the host: its interface eth7 is a part of bond0")

	// Another function's interface has the name by now: nothing of it is read.
	a.Function = 1
	assert.ErrorIs(t, h.RefuseHostUse(nil, a, link.Link{Name: "eth7"}), link.ErrNotFound)
	_, err = h.read(nil, a, "eth7")
	assert.ErrorIs(t, err, link.ErrNotFound)
}
