// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

const initPod, otherPod = "5c2f8f4e-9a39-4d0c-8f0b-0c3f5b0f9f11", "0a1b2c3d-0000-4000-8000-000000000001"

// given writes the device manager's checkpoint, of a time ago: a pod has a VF.
func (s *stand) given(vf, uid string, ago time.Duration) {
	s.Checkpoint = filepath.Join(s.root, "var/lib/kubelet/device-plugins/kubelet_internal_checkpoint")
	s.spoilCheckpoint(fmt.Sprintf(`{"Data": {"PodDeviceEntries": [
		{"PodUID": %q, "ContainerName": "first", "ResourceName": "openshift.io/r", "DeviceIDs": {"-1": [], "0": [%q]}, "AllocResp": ""},
		{"PodUID": "x", "ContainerName": "c", "ResourceName": "gpu.example/a", "DeviceIDs": {"0": ["gpu-0"]}, "AllocResp": ""}],
		"RegisteredDevices": {}}, "Checksum": 1}`, uid, vf))
	at := time.Now().Add(-ago)
	require.NoError(s.t, os.Chtimes(s.Checkpoint, at, at))
}

func (s *stand) spoilCheckpoint(text string) {
	require.NoError(s.t, os.MkdirAll(filepath.Dir(s.Checkpoint), 0o755))
	require.NoError(s.t, os.WriteFile(s.Checkpoint, []byte(text), 0o600))
}

// group makes the control group of a pod that is on the node.
func (s *stand) group(uid string) string {
	dir := filepath.Join(s.root, "sys/fs/cgroup/kubepods/besteffort/pod"+uid)
	require.NoError(s.t, os.MkdirAll(filepath.Join(dir, "container"), 0o755))
	return dir
}

// A VF of an init container is its pod's, although the kubelet does not list it. The pod has
// no name here, but it can be asked to leave.
func TestVFOfAnInitContainerIsInUse(t *testing.T) {
	s := newStand(t)
	s.given(treeVF1, initPod, time.Hour)
	group := s.group(initPod)
	_, err := s.pass()
	require.NoError(t, err)
	require.Empty(t, s.wrote)
	require.Equal(t, []string{v1.DrainRequired, treeVF1, initPod},
		[]string{s.annotation(v1.AnnotationDesiredState), s.annotation(v1.AnnotationDrainVFs), s.annotation(v1.AnnotationDrainPods)})

	t.Log("the drain was about another pod")
	s.answer(v1.DrainComplete, "1")
	s.given(treeVF1, otherPod, time.Hour)
	s.group(otherPod)
	_, err = s.pass()
	require.NoError(t, err)
	require.Empty(t, s.wrote)
	require.Equal(t, otherPod, s.annotation(v1.AnnotationDrainPods))

	t.Log("pods that have ended stay in the checkpoint for a while")
	s = newStand(t)
	s.group(otherPod)
	require.NoError(t, os.RemoveAll(group))
	s.given(treeVF1, initPod, time.Hour)
	_, err = s.pass()
	require.ErrorContains(t, err, "create VFs", "these files do not follow what is written to them")
	require.Equal(t, "sriov_numvfs=0", s.wrote[0])
	require.Equal(t, v1.DrainIdle, s.annotation(v1.AnnotationDesiredState))
}

// A pod that was given a VF a moment ago is waited for: its group tells that it is there.
func TestPodInTheMakingIsAwaited(t *testing.T) {
	s := newStand(t)
	s.group(otherPod)
	s.given("0000:09:00.1", otherPod, 0)
	rounds := 0
	s.kubelet.asked = func(*fakeKubelet) {
		switch rounds++; rounds {
		case 1: // given before the VF was withdrawn
			s.given(treeVF1, initPod, 0)
		case 2:
			s.group(initPod)
		}
	}
	_, err := s.pass()
	require.NoError(t, err)
	require.Equal(t, 2, rounds)
	require.Empty(t, s.wrote)
	_, err = s.pass()
	require.NoError(t, err)
	require.Equal(t, initPod, s.annotation(v1.AnnotationDrainPods))
}

// What cannot be known is not none.
func TestUnreadableCheckpointTouchesNothing(t *testing.T) {
	for name, spoil := range map[string]func(*stand){
		"damaged":      func(s *stand) { s.spoilCheckpoint("{") },
		"other format": func(s *stand) { s.spoilCheckpoint(`{"devices": []}`) },
		"too large":    func(s *stand) { require.NoError(s.t, os.Truncate(s.Checkpoint, maxCheckpoint+1)) },
		"a directory": func(s *stand) {
			require.NoError(s.t, os.Remove(s.Checkpoint))
			require.NoError(s.t, os.Mkdir(s.Checkpoint, 0o755))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			s.given(treeVF1, initPod, time.Hour)
			spoil(s)
			_, err := s.pass()
			require.ErrorContains(t, err, "read which VFs the kubelet has given to pods")
			require.Empty(t, s.wrote)
		})
	}
	t.Run("no groups", func(t *testing.T) {
		s := newStand(t)
		s.given(treeVF1, initPod, time.Hour)
		_, err := s.pass()
		require.NoError(t, err)
		require.Empty(t, s.wrote)
		require.Equal(t, initPod, s.annotation(v1.AnnotationDrainPods))
	})
}

func TestPodGroups(t *testing.T) {
	t.Parallel()
	const static = "0123456789abcdef0123456789abcdef"
	for dir, want := range map[string]string{
		"kubepods/pod" + initPod: initPod, "kubepods/burstable/pod" + static + "/abc": static,
		"memory/kubepods/besteffort/pod" + initPod: initPod,
		"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod5c2f8f4e_9a39_4d0c_8f0b_0c3f5b0f9f11.slice":                                     initPod,
		"kubepods.slice/kubepods-pod" + static + ".slice":                                                                                                static,
		"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod5c2f8f4e_9a39_4d0c_8f0b_0c3f5b0f9f11.slice": initPod,
		"system.slice/podman.service": "", "kubepods/burstable": "", "user.slice/app-pod-0.scope": "", "a/b/c/d/e/f/g/pod" + initPod: "",
	} {
		root := t.TempDir()
		require.NoError(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
		got, err := podGroups(root)
		require.NoError(t, err)
		if want == "" {
			require.Empty(t, got, dir)
		} else {
			require.Equal(t, map[string]bool{want: true}, got, dir)
		}
	}
	got, err := podGroups(filepath.Join(t.TempDir(), "none"))
	require.NoError(t, err)
	require.Empty(t, got)
}
