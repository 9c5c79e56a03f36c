// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// record writes what the DRA driver keeps of a claim, as it keeps it.
func (s *stand) record(name, text string) {
	s.Claims = filepath.Join(s.root, "var/lib/kubelet/plugins/driver")
	dir := filepath.Join(s.Claims, "claims")
	require.NoError(s.t, os.MkdirAll(dir, 0o700))
	require.NoError(s.t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
}

const boundClaim = `{"version": 1, "uid": "2f0a2b1e-5d4c-4a56-9a5e-2f4d1c0b9a87", "namespace": "team", "name": "nic", "pod": {"uid": "u", "name": "dpdk"}, "bootID": "b",
	"prepared": false, "requests": [
		{"name": "vf", "devices": [{"id": "` + treeVF0 + `", "name": "0000-01-01-0", "resource": {"prefix": "o", "name": "r"}, "driver": "vfio-pci", "bound": "vfio-pci", "before": "iavf"}]},
		{"name": "look", "adminAccess": true, "devices": [{"id": "` + treeVF1 + `", "name": "0000-01-01-1", "resource": {"prefix": "o", "name": "r"}}]}]}`

// A VF of a claim is in use as soon as the DRA driver begins to prepare it, before the kubelet
// lists it. A driver that the claim asked for is not changed back.
func TestDriverOfAClaimIsTheClaims(t *testing.T) {
	s := newStand(t)
	s.change(func(n *v1.SriovNetworkNodeState) { // both VFs, for the kernel's driver: they are on vfio-pci
		n.Spec.Interfaces[0].NumVfs = 2
		n.Spec.Interfaces[0].VfGroups[0].VfRange, n.Spec.Interfaces[0].VfGroups[0].DeviceType = "0-1", v1.DeviceTypeNetDevice
	})
	s.record("2f0a2b1e-5d4c-4a56-9a5e-2f4d1c0b9a87.json", boundClaim)
	s.record(".tmp-2f0a.json", "{")
	held, err := s.Daemon.kubelet(s.state()).inUse(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, map[string]string{treeVF0: "team/dpdk"}, held, "and what it only looks at is not")
	// The kubelet lists both alike.
	for _, device := range []string{"0000-01-01-0", "0000-01-01-1"} {
		s.kubelet.claims = append(s.kubelet.claims, &podresources.DynamicResource{ClaimNamespace: "team", ClaimName: "nic",
			ClaimResources: []*podresources.ClaimResource{{DriverName: v1.DRADriver, DeviceName: device}}})
	}
	held, err = s.Daemon.kubelet(s.state()).inUse(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, map[string]string{treeVF0: "ns/claimant"}, held)
	s.kubelet.claims = nil
	_, err = s.pass()
	require.NoError(t, err)
	require.NotEmpty(t, s.wrote)
	require.NotContains(t, strings.Join(s.wrote, "\n"), treeVF0)
	require.Contains(t, strings.Join(s.wrote, "\n"), treeVF1)
	require.NotEqual(t, v1.DrainRequired, s.annotation(v1.AnnotationDesiredState))
	offered, err := os.ReadFile(filepath.Join(s.root, "etc/sriov-operator/device-plugin/config.json"))
	require.NoError(t, err)
	require.Contains(t, string(offered), treeVF0, "its pod has it as a device of this resource")

	t.Log("fewer VFs disturb it all the same, and its pod is asked to leave")
	s.change(func(n *v1.SriovNetworkNodeState) { n.Spec.Interfaces[0].NumVfs = 1 })
	_, err = s.pass()
	require.NoError(t, err)
	require.Equal(t, []string{v1.DrainRequired, "team/dpdk"}, []string{s.annotation(v1.AnnotationDesiredState), s.annotation(v1.AnnotationDrainPods)})

	t.Log("a record that cannot be read may be of any VF")
	wrote := len(s.wrote)
	for _, text := range []string{"{", `{"version": 2}`, "null", `{"version": 1}`,
		`{"version": 1, "uid": "2f0a2b1e-5d4c-4a56-9a5e-2f4d1c0b9a87"}`, strings.Replace(boundClaim, "2f0a", "2f0b", 1)} {
		s.record("2f0a2b1e-5d4c-4a56-9a5e-2f4d1c0b9a87.json", text)
		_, err = s.pass()
		require.ErrorContains(t, err, "read which VFs claims have", text)
		require.ErrorContains(t, err, "once no pod has a device of the claim, remove the file")
	}
	require.Len(t, s.wrote, wrote)

	t.Log("a copy that somebody made of one is no record")
	s.record("2f0a2b1e-5d4c-4a56-9a5e-2f4d1c0b9a87.json", boundClaim)
	s.record("2f0a2b1e-5d4c-4a56-9a5e-2f4d1c0b9a87.old.json", "{")
	_, _, err = claims{s.Claims}.read()
	require.NoError(t, err)
}

// Withdrawing VFs waits for a claim that is being prepared.
func TestClaimInTheMakingIsAwaited(t *testing.T) {
	s := newStand(t)
	s.Claims = t.TempDir()
	file, err := os.Create(filepath.Join(s.Claims, "calls.lock"))
	require.NoError(t, err)
	require.NoError(t, unix.Flock(int(file.Fd()), unix.LOCK_EX))
	s.kubelet.asked = func(*fakeKubelet) { require.Fail(t, "asked before the claim is prepared") }
	done := make(chan error, 1)
	go func() { done <- claims{s.Claims}.await(t.Context()) }()
	select {
	case err := <-done:
		require.Fail(t, "returned", err)
	default:
	}
	require.NoError(t, file.Close())
	require.NoError(t, <-done)
	require.NoError(t, claims{t.TempDir()}.await(t.Context()), "no driver was ever here")
}
