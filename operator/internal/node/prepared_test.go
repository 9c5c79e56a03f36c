// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// prepare writes the kubelet's list, as it writes it: a pod has a device of a driver's.
func (s *stand) prepare(driver, device, cdi, uid string) {
	data, err := json.Marshal(fmt.Sprintf(`{"kind":"","ClaimInfoStateList":[
		{"ClaimUID":"1","ClaimName":"nic","Namespace":"team","PodUIDs":{%q:{}},"DriverState":{%q:{"Devices":[
			{"PoolName":"w1","DeviceName":%q,"ShareID":null,"RequestNames":["vf"],"CDIDeviceIDs":[%q]}]}}},
		{"ClaimUID":"2","ClaimName":"over","Namespace":"team","PodUIDs":{},"DriverState":{"gpu.example.com":{"Devices":[{"DeviceName":"0000-01-01-0"}]}}}]}`, uid, driver, device, cdi))
	require.NoError(s.t, err)
	s.spoilPrepared(fmt.Sprintf(`{"Data":%s,"Checksum":1}`, data))
}

func (s *stand) spoilPrepared(text string) {
	s.Prepared = filepath.Join(s.root, "proc/1/root/var/lib/kubelet/dra_manager_state")
	require.NoError(s.t, os.MkdirAll(filepath.Dir(s.Prepared), 0o755))
	require.NoError(s.t, os.WriteFile(s.Prepared, []byte(text), 0o600))
}

// A VF that a claim of another driver has for an init container is in use, although the
// pod-resources API does not list it. For this project's driver the records decide.
func TestClaimOfAnInitContainerIsInUse(t *testing.T) {
	const name = "0000-01-01-1" // treeVF1
	for what, tc := range map[string]struct {
		driver, device, cdi string
		record              bool
		want                string
	}{
		"by its name":               {"dra.net", name, "", false, initPod},
		"by its CDI device":         {"vendor.example.com", "vf1", "vendor.example.com/vf=u-pci-" + name, false, initPod},
		"hardware of another kind":  {"gpu.example.com", "gpu-0", "", false, ""},
		"a driver of the same name": {v1.DRADriver, name, "", false, initPod},
		"this driver, which looks":  {v1.DRADriver, name, "", true, ""},
	} {
		t.Run(what, func(t *testing.T) {
			s := newStand(t)
			s.prepare(tc.driver, tc.device, tc.cdi, initPod)
			if tc.record {
				s.record("x.json", `{"version": 1}`)
			}
			held, err := s.Daemon.kubelet(s.state()).inUse(t.Context(), nil)
			require.NoError(t, err)
			require.Equal(t, tc.want, held[treeVF1])
			require.NotContains(t, held, treeVF0, "of a pod that has ended")
			if tc.want == "" {
				return
			}
			_, err = s.pass()
			require.NoError(t, err)
			require.Empty(t, s.wrote)
			require.Equal(t, []string{v1.DrainRequired, treeVF1, initPod},
				[]string{s.annotation(v1.AnnotationDesiredState), s.annotation(v1.AnnotationDrainVFs), s.annotation(v1.AnnotationDrainPods)})
		})
	}
}

// A list without claims has a form, too: what has none of those that kubelets write is not known.
func TestFormsOfThePreparedList(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, wrong string }{
		"1.32, none yet":      {`{"Data":"{\"kind\":\"DRACheckpoint\",\"apiVersion\":\"checkpoint.dra.kubelet.k8s.io/v1\",\"ClaimInfoStateList\":null}","Checksum":1}`, ""},
		"1.32, none any more": {`{"Data":"{\"ClaimInfoStateList\":[]}","Checksum":1}`, ""},
		"1.31, none":          {`{"version":"v1","checksum":1}`, ""},
		"1.31, one of then":   {`{"version":"v1","entries":[{"DriverName":"d","PodUIDs":{"u":{}},"CDIDevices":{}}],"checksum":1}`, ""},
		"empty object":        {`{}`, "neither data nor a version"},
		"null":                {`null`, "neither data nor a version"},
		"data is null":        {`{"Data":null,"Checksum":0}`, "neither data nor a version"},
		"data is empty":       {`{"Data":"","Checksum":0}`, "data: "},
		"data without a list": {`{"Data":"{}","Checksum":1}`, "no ClaimInfoStateList"},
		"a list of another":   {`{"Data":"{\"ClaimInfoStateList\":{}}","Checksum":1}`, "data: "},
		"empty file":          {``, "unexpected end"},
	} {
		claims, err := parsePrepared([]byte(tc.text))
		require.Empty(t, claims, name)
		if tc.wrong == "" {
			require.NoError(t, err, name)
		} else {
			require.ErrorContains(t, err, tc.wrong, name)
		}
	}
}

func TestUnreadablePreparedClaimsTouchNothing(t *testing.T) {
	for name, text := range map[string]string{"damaged": "{", "empty": "", "other format": `{"Data": {}}`, "cut": `{"Data":"{\"ClaimInfo","Checksum":1}`} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			s.spoilPrepared(text)
			_, err := s.pass()
			require.ErrorContains(t, err, "read which claims the kubelet has prepared: "+s.Prepared)
			require.Empty(t, s.wrote)
		})
	}
}
