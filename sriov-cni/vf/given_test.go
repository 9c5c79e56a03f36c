// SPDX-License-Identifier: Apache-2.0

package vf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// checkpoint is as kubelet 1.34 writes it, cut to what matters.
const checkpoint = `{"Data":{"PodDeviceEntries":[
 {"PodUID":"aaa","ContainerName":"c","ResourceName":"x/y","DeviceIDs":{"-1":["0000:af:06.0"],"0":["0000:af:06.1"]},"AllocResp":"Q0NM"},
 {"PodUID":"bbb","ContainerName":"c","ResourceName":"x/y","DeviceIDs":{"0":["0000:af:06.2"]},"AllocResp":""}],
 "RegisteredDevices":{"x/y":["0000:af:06.0","0000:af:06.1","0000:af:06.2","0000:af:06.3"]}},"Checksum":1}`

// claims is as kubelet 1.34 writes it, cut likewise.
const claims = `{"Data":"{\"kind\":\"DRACheckpoint\",\"apiVersion\":\"checkpoint.dra.kubelet.k8s.io/v1\",\"ClaimInfoStateList\":[` +
	`{\"ClaimUID\":\"u\",\"ClaimName\":\"n\",\"Namespace\":\"default\",\"PodUIDs\":{\"ccc\":{},\"ddd\":{}},\"DriverState\":{\"sriov.example\":{\"Devices\":[` +
	`{\"PoolName\":\"node1\",\"DeviceName\":\"0000-af-06-5\",\"RequestNames\":[\"vf\"],\"CDIDeviceIDs\":null}]}}}]}","Checksum":1}`

const (
	deviceFile = "var/lib/kubelet/" + deviceRecord
	claimFile  = "var/lib/kubelet/" + claimRecord
)

// emptyHost has the default node configuration, and no file.
func emptyHost(t *testing.T) *Host {
	t.Helper()
	h := &Host{Root: t.TempDir()}
	var err error
	h.Node, err = ReadNodeConfig(h.Root)
	require.NoError(t, err)
	return h
}

var first = libsriov.Address{Bus: 0xaf, Device: 6}

func put(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

func TestAnotherPodsDeviceIsRefused(t *testing.T) {
	t.Parallel()
	h := emptyHost(t)
	require.NoError(t, h.RefuseForeign(first, "zzz"), "without kubelet nothing is known")
	require.NoError(t, os.MkdirAll(filepath.Join(h.Root, deviceFile), 0o700))
	require.ErrorContains(t, h.RefuseForeign(first, "zzz"), "kubelet's record of devices", "what cannot be read may name another")
	require.NoError(t, os.Remove(filepath.Join(h.Root, deviceFile)))
	put(t, h.Root, deviceFile, checkpoint)
	put(t, h.Root, claimFile, claims)
	strict := *h
	strict.Node.OnlyGiven = true
	for name, tc := range map[string]struct {
		function uint8
		pod      string
		want     string // in the error; "" for none
		strictly string // likewise, with onlyGiven
	}{
		"its own":                        {pod: "aaa"},
		"its own, of another NUMA node":  {function: 1, pod: "aaa"},
		"another's":                      {pod: "bbb", want: "was given to pod aaa"},
		"another's, elsewhere":           {function: 2, pod: "aaa", want: "was given to pod bbb"},
		"a pool's, nobody's":             {function: 3, pod: "aaa", want: "was not given to this pod"},
		"a pool's, of a pod without any": {function: 3, pod: "zzz", want: "was not given to this pod"},
		"no device of pools":             {function: 4, pod: "aaa", strictly: "was not given to this pod"},
		"its claim's":                    {function: 5, pod: "ccc"},
		"its claim's, with another pod":  {function: 5, pod: "ddd"},
		"another's claim's":              {function: 5, pod: "aaa", want: "was given to pod"},
		"who asks is not said":           {strictly: "was given to pod aaa"},
		"not said, nobody's":             {function: 4, strictly: "was not given to this pod"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := first
			a.Function = tc.function
			for h, want := range map[*Host]string{h: tc.want, &strict: tc.want + tc.strictly} {
				if err := h.RefuseForeign(a, tc.pod); want != "" {
					assert.ErrorContains(t, err, want)
				} else {
					assert.NoError(t, err)
				}
			}
		})
	}
}

// Kubelet has the directory of the device manager's record built in, wherever its root
// directory is. Where it sees its root directory under the usual path, the record is there.
func TestRecordsWithAnotherKubeletDirectory(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{"built in": deviceFile, "as kubelet sees it": "data/kubelet/" + deviceRecord} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := emptyHost(t)
			h.Node.KubeletDirectory = "/data/kubelet"
			put(t, h.Root, file, checkpoint)
			put(t, h.Root, "data/kubelet/"+claimRecord, claims)
			require.ErrorContains(t, h.RefuseForeign(first, "zzz"), "was given to pod aaa")
			claimed := first
			claimed.Function = 5
			require.ErrorContains(t, h.RefuseForeign(claimed, "aaa"), "was given to pod")
			require.NoError(t, h.RefuseForeign(first, "aaa"))
			put(t, h.Root, file, checkpoint[:120])
			require.ErrorContains(t, h.RefuseForeign(first, "aaa"), "kubelet's record of devices")
		})
	}
}

// What a record says of a device and cannot be understood may be that it is another pod's.
func TestDamagedRecordGivesNothing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ file, text, want string }{
		"cut":                        {deviceFile, checkpoint[:120], "kubelet's record of devices"},
		"other types":                {deviceFile, `{"Data":{"PodDeviceEntries":[{"DeviceIDs":["0000:af:06.0"]}]}}`, "kubelet's record of devices"},
		"cut before the device":      {deviceFile, checkpoint[:40], "kubelet's record of devices"},
		"claims cut":                 {claimFile, strings.ReplaceAll(claims, "06-5", "06-0")[:len(claims)-20], "kubelet's record of devices"},
		"claims cut inside":          {claimFile, `{"Data":"{\"ClaimInfoStateList\":[0000-af-06-0"}`, "kubelet's record of claims"},
		"claims, empty":              {claimFile, `{}`, "none of ClaimInfoStateList"},
		"claims, null":               {claimFile, `{"Data":null}`, "none of ClaimInfoStateList"},
		"claims, no file's content":  {claimFile, ``, "kubelet's record of devices"},
		"claims, none":               {claimFile, `{"Data":"{\"ClaimInfoStateList\":null}","Checksum":1}`, ""},
		"claims, none, older":        {claimFile, `{"version":"v1","checksum":1}`, ""},
		"devices, empty":             {deviceFile, `{"Data":{}}`, `none of "PodDeviceEntries"`},
		"devices, none":              {deviceFile, `{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{}},"Checksum":1}`, ""},
		"claims of an older kubelet": {claimFile, `{"version":"v1","entries":[{"CDIDevices":{"d":["x=0000-af-06-0"]}}],"checksum":1}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := emptyHost(t)
			put(t, h.Root, tc.file, tc.text)
			if err := h.RefuseForeign(first, "zzz"); tc.want != "" {
				assert.ErrorContains(t, err, tc.want)
			} else {
				assert.NoError(t, err)
			}
		})
	}
}

// Kubelet's record lists pods that have ended until it is written again, which without a
// device plugin may be never, and pods that have not begun.
func TestEndedPodKeepsNoDevice(t *testing.T) {
	t.Parallel()
	old := time.Now().Add(-time.Hour)
	for name, tc := range map[string]struct {
		pods    []string // of which kubelet has a directory
		written time.Time
		offered bool
		refused bool
	}{
		"ended":                              {pods: []string{"bbb"}, written: old},
		"has not begun":                      {pods: []string{"bbb"}, written: time.Now().Add(time.Hour), refused: true},
		"runs":                               {pods: []string{"aaa", "bbb"}, written: old, refused: true},
		"the caller's has not begun":         {written: old, refused: true},
		"ended, and its device plugin is at": {pods: []string{"bbb"}, written: old, offered: true, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := emptyHost(t)
			record := checkpoint
			if !tc.offered {
				record, _, _ = strings.Cut(record, `"RegisteredDevices"`)
				record += `"RegisteredDevices":{}},"Checksum":1}`
			}
			put(t, h.Root, deviceFile, record)
			require.NoError(t, os.Chtimes(filepath.Join(h.Root, deviceFile), tc.written, tc.written))
			for _, uid := range tc.pods {
				put(t, h.Root, "var/lib/kubelet/pods/"+uid+"/etc-hosts", "")
			}
			assert.Equal(t, tc.refused, h.RefuseForeign(first, "bbb") != nil)
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
		"registered with kubelet":     {file: deviceFile, text: checkpoint, allowed: true},
		"damaged record of kubelet":   {file: deviceFile, text: `{"0000:af:06.3":`},
		"claimed":                     {file: claimFile, text: strings.ReplaceAll(claims, "06-5", "06-3"), allowed: true},
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
