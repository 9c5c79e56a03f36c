package plugin

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
	p := &Plugin{Root: t.TempDir()}
	var err error
	p.node, err = p.readNodeConfig()
	require.NoError(t, err)
	first := libsriov.Address{Bus: 0xaf, Device: 6}
	require.NoError(t, p.refuseForeign(first, "K8S_POD_UID=zzz"), "without kubelet nothing is known")
	put(t, p.Root, "var/lib/kubelet/device-plugins/kubelet_internal_checkpoint", checkpoint)
	for name, tc := range map[string]struct {
		function uint8
		args     string
		refused  bool
	}{
		"its own":              {args: "IgnoreUnknown=1;K8S_POD_UID=aaa;K8S_POD_NAME=x"},
		"another's":            {args: "IgnoreUnknown=1;K8S_POD_NAME=x;K8S_POD_UID=bbb", refused: true},
		"another's, elsewhere": {function: 2, args: "K8S_POD_UID=aaa", refused: true},
		"nobody's":             {function: 3, args: "K8S_POD_UID=aaa"},
		"no device of pools":   {function: 4, args: "K8S_POD_UID=aaa"},
		"who asks is not said": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := first
			a.Function = tc.function
			err := p.refuseForeign(a, tc.args)
			if tc.refused {
				assert.ErrorContains(t, err, "was given to pod")
			} else {
				assert.NoError(t, err)
			}
		})
	}
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
			p := &Plugin{Root: t.TempDir()}
			put(t, p.Root, tc.file, tc.text)
			p.node, _ = p.readNodeConfig()
			err := p.refuseUnlisted(a)
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
	p := &Plugin{Root: t.TempDir()}
	put(t, p.Root, "sys/class/net/eth7/upper_bond0/x", "")
	use, err := p.hostUse(nil, "eth7")
	require.NoError(t, err)
	assert.Contains(t, use, "bond0")
	host, err := link.Open(nil)
	require.NoError(t, err)
	defer host.Close()
	_, err = p.hostUse(host, "none-such")
	assert.ErrorContains(t, err, "none-such")
}
