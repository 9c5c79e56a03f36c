// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

const (
	initPod  = "5c2f8f4e-9a39-4d0c-8f0b-0c3f5b0f9f11"
	otherPod = "0a1b2c3d-0000-4000-8000-000000000001"
	thirdPod = "0a1b2c3d-0000-4000-8000-000000000003"
)

// given writes the device manager's checkpoint: a pod has a VF.
func (s *stand) given(vf, uid string) {
	s.Checkpoint = filepath.Join(s.root, "var/lib/kubelet/device-plugins/kubelet_internal_checkpoint")
	s.spoilCheckpoint(fmt.Sprintf(`{"Data": {"PodDeviceEntries": [
		{"PodUID": %q, "ContainerName": "first", "ResourceName": "openshift.io/r", "DeviceIDs": {"-1": [], "0": [%q]}, "AllocResp": ""},
		{"PodUID": "x", "ContainerName": "c", "ResourceName": "gpu.example/a", "DeviceIDs": {"0": ["gpu-0"]}, "AllocResp": ""}],
		"RegisteredDevices": {}}, "Checksum": 1}`, uid, vf))
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

// A VF of an init container is in use, although the kubelet does not list it. The pod is known
// by UID only, which suffices to drain it.
func TestVFOfAnInitContainerIsInUse(t *testing.T) {
	s := newStand(t)
	s.given(treeVF1, initPod)
	s.group(initPod)
	_, err := s.pass()
	require.NoError(t, err)
	require.Empty(t, s.wrote)
	require.Equal(t, []string{v1.DrainRequired, treeVF1, initPod},
		[]string{s.annotation(v1.AnnotationDesiredState), s.annotation(v1.AnnotationDrainVFs), s.annotation(v1.AnnotationDrainPods)})

	t.Log("the drain was about another pod")
	s.answer(v1.DrainComplete, "1")
	s.given(treeVF1, otherPod)
	s.group(otherPod)
	_, err = s.pass()
	require.NoError(t, err)
	require.Empty(t, s.wrote)
	require.Equal(t, otherPod, s.annotation(v1.AnnotationDrainPods))

}

// asked lists the pods that the operator is asked about.
func (s *stand) asked() string {
	pods, at, _ := strings.Cut(s.annotation(v1.AnnotationPodsAsked), ",#")
	require.NotEmpty(s.t, at)
	return pods
}

// tells writes the operator's answer to the present question.
func (s *stand) tells(answer string) {
	s.change(func(n *v1.SriovNetworkNodeState) {
		n.Annotations[v1.AnnotationPodsAnswer] = answer + "," + mark(n.Annotations[v1.AnnotationPodsAsked]) + "=" + v1.PodHere
	})
}

// later makes the question and its answer older.
func (s *stand) later(age time.Duration) {
	s.change(func(n *v1.SriovNetworkNodeState) {
		now, then := mark(n.Annotations[v1.AnnotationPodsAsked]), fmt.Sprintf("#%d", time.Now().Add(-age).UnixMilli())
		for _, a := range []string{v1.AnnotationPodsAsked, v1.AnnotationPodsAnswer} {
			n.Annotations[a] = strings.ReplaceAll(n.Annotations[a], now, then)
		}
	})
}

// A pod in the checkpoint without a control group has ended, or has not started: the kubelet
// makes it wait while the node's network is not ready. Its VF is in use until the operator,
// which can read pods, answers that it is gone.
func TestPodWithoutAGroupIsAskedFor(t *testing.T) {
	asked := func(t *testing.T) *stand {
		s := newStand(t)
		s.group(otherPod)
		s.given(treeVF1, initPod)
		for range 3 { // however long it takes
			_, err := s.pass()
			require.NoError(t, err)
			require.Empty(t, s.wrote)
			require.Equal(t, []string{initPod, v1.DrainIdle}, []string{s.asked(), s.annotation(v1.AnnotationDesiredState)})
		}
		said := meta.FindStatusCondition(s.state().Status.Conditions, v1.ConditionReady)
		require.Equal(t, v1.ReasonWaitingAnswer, said.Reason)
		require.Contains(t, said.Message, treeVF1+" (pod "+initPod+")")
		return s
	}
	t.Run("gone", func(t *testing.T) {
		s := asked(t)
		s.tells(initPod + "=" + v1.PodGone)
		_, err := s.pass()
		require.ErrorContains(t, err, "create VFs", "these files do not follow what is written to them")
		require.Equal(t, "sriov_numvfs=0", s.wrote[0])
		require.Equal(t, v1.DrainIdle, s.annotation(v1.AnnotationDesiredState))
		require.Equal(t, initPod, s.asked(), "what fails asks no second time")
	})
	t.Run("here", func(t *testing.T) {
		s := asked(t)
		s.tells(initPod + "=" + v1.PodHere)
		_, err := s.pass()
		require.NoError(t, err)
		require.Empty(t, s.wrote)
		require.Equal(t, []string{v1.DrainRequired, treeVF1, initPod},
			[]string{s.annotation(v1.AnnotationDesiredState), s.annotation(v1.AnnotationDrainVFs), s.annotation(v1.AnnotationDrainPods)})
	})
	t.Run("an answer about another", func(t *testing.T) {
		s := asked(t)
		s.tells(otherPod + "=" + v1.PodGone)
		_, err := s.pass()
		require.NoError(t, err)
		require.Empty(t, s.wrote)
	})
	t.Run("another is given one meanwhile", func(t *testing.T) {
		s := asked(t)
		s.tells(initPod + "=" + v1.PodGone)
		s.kubelet.asked = func(*fakeKubelet) { s.given(treeVF1, thirdPod) } // before the VF was withdrawn
		_, err := s.pass()
		require.NoError(t, err)
		require.Empty(t, s.wrote)
		_, err = s.pass()
		require.NoError(t, err)
		require.Empty(t, s.wrote)
		require.Equal(t, thirdPod, s.asked())
	})
	t.Run("it begins before the answer", func(t *testing.T) {
		s := asked(t)
		s.group(initPod)
		s.tells(initPod + "=" + v1.PodGone) // of a cluster restored from a backup, say
		_, err := s.pass()
		require.NoError(t, err)
		require.Empty(t, s.wrote)
		require.Equal(t, initPod, s.annotation(v1.AnnotationDrainPods))
	})
}

// A pod that was here may have ended since, while the question about it stayed the same: no node is
// drained for what was said long ago, and a wish for that ends when the pod has.
func TestPodThatWasHereIsAskedForAnew(t *testing.T) {
	for name, wished := range map[string]bool{"before a drain is asked for": false, "while a drain is waited for": true} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			s.given(treeVF1, initPod)
			_, err := s.pass()
			require.NoError(t, err)
			s.tells(initPod + "=" + v1.PodHere)
			desired := v1.DrainIdle
			if wished {
				desired = v1.DrainRequired
				next, err := s.pass()
				require.NoError(t, err)
				require.Equal(t, askAgain, next.RequeueAfter, "no event tells that a pod has ended")
			}
			for _, age := range []time.Duration{askAgain, -time.Hour} {
				s.tells(initPod + "=" + v1.PodHere)
				s.later(age)
				before := s.annotation(v1.AnnotationPodsAsked)
				for range 2 {
					_, err = s.pass()
					require.NoError(t, err)
					require.Equal(t, initPod, s.asked())
					require.NotEqual(t, before, s.annotation(v1.AnnotationPodsAsked))
					require.Equal(t, desired, s.annotation(v1.AnnotationDesiredState))
				}
			}
			writes := s.writes
			_, err = s.pass()
			require.NoError(t, err)
			require.Equal(t, writes, s.writes, "asked once")

			s.tells(initPod + "=" + v1.PodGone)
			_, err = s.pass()
			require.ErrorContains(t, err, "create VFs", "these files do not follow what is written to them")
			require.Equal(t, v1.DrainIdle, s.annotation(v1.AnnotationDesiredState))
		})
	}
}

// A step that is left out while its VF is in use is done when the API server says that the pod of
// it has ended: it is asked about as well.
func TestStepThatYieldsIsAskedAbout(t *testing.T) {
	s := newStand(t)
	works := []plan.Work{{PF: treePF, Steps: []plan.Step{{Op: plan.OpMAC, Disturbs: []string{treeVF1}, Yields: true}}}}
	consider := func() ([]plan.Work, inquiry) {
		state := s.state()
		held, unclear := map[string]string{treeVF1: initPod}, map[string]string{treeVF1: initPod}
		if answersIn(state)[initPod] == v1.PodGone {
			held = nil // see kubelet.look
		}
		left, asks, err := s.consider(t.Context(), state, works, held, unclear)
		require.NoError(t, err)
		return left, asks
	}
	left, asks := consider()
	require.Empty(t, left)
	require.True(t, asks.stands)
	require.Equal(t, initPod, s.asked())

	s.tells(initPod + "=" + v1.PodHere)
	left, asks = consider()
	require.Empty(t, left)
	require.Empty(t, asks.open)
	require.True(t, asks.stands, "it may end yet")

	s.tells(initPod + "=" + v1.PodGone)
	left, asks = consider()
	require.Equal(t, works, left)
	require.False(t, asks.stands)
}

// An API server whose rules are of an older version refuses the question, or a wish for a drain. The
// object says so, once, with what to do; nothing is changed.
func TestRefusedQuestionIsACondition(t *testing.T) {
	for name, ask := range map[string]func(*stand){
		"about pods":  func(s *stand) { s.given(treeVF1, initPod) },
		"for a drain": func(s *stand) { s.kubelet.hold(treeVF1, "user") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			ask(s)
			s.refuseAnnotations = apierrors.NewForbidden(v1.GroupVersion.WithResource("sriovnetworknodestates").GroupResource(), "node", errors.New("not one of its own"))
			for range 3 {
				_, err := s.pass()
				require.ErrorContains(t, err, "not one of its own")
				require.Empty(t, s.wrote)
			}
			said := meta.FindStatusCondition(s.state().Status.Conditions, v1.ConditionReady)
			require.NotNil(t, said)
			require.Equal(t, v1.ReasonApplyFailed, said.Reason)
			require.Contains(t, said.Message, "ValidatingAdmissionPolicy sriov-network-config-daemon")
			require.Contains(t, said.Message, "not one of its own")
			require.Equal(t, 4, s.writes, "three tries and one report")
			require.Len(t, s.events.Events, 1)

			s.refuseAnnotations = nil // its manifests are applied
			_, err := s.pass()
			require.NoError(t, err)
			require.NotEqual(t, v1.ReasonApplyFailed, meta.FindStatusCondition(s.state().Status.Conditions, v1.ConditionReady).Reason)
		})
	}
}

// The question is removed when the work is done, and no sooner.
func TestQuestionEndsWithTheWork(t *testing.T) {
	s := newStand(t)
	s.given(treeVF1, initPod)
	_, err := s.pass()
	require.NoError(t, err)
	require.Equal(t, initPod, s.asked())
	s.change(func(n *v1.SriovNetworkNodeState) {
		n.Spec.Interfaces[0].NumVfs, n.Spec.Interfaces[0].VfGroups[0].VfRange = 2, "0-1"
	})
	_, err = s.pass()
	require.NoError(t, err)
	require.Empty(t, s.annotation(v1.AnnotationPodsAsked))
}

// A checkpoint that cannot be read does not mean that no VF is in use.
func TestUnreadableCheckpointTouchesNothing(t *testing.T) {
	for name, spoil := range map[string]func(*stand){
		"damaged":      func(s *stand) { s.spoilCheckpoint("{") },
		"other format": func(s *stand) { s.spoilCheckpoint(`{"devices": []}`) },
		"empty":        func(s *stand) { s.spoilCheckpoint(`{}`) },
		"no entries":   func(s *stand) { s.spoilCheckpoint(`{"Data":{}}`) },
		"too large":    func(s *stand) { require.NoError(s.t, os.Truncate(s.Checkpoint, maxCheckpoint+1)) },
		"a directory": func(s *stand) {
			require.NoError(s.t, os.Remove(s.Checkpoint))
			require.NoError(s.t, os.Mkdir(s.Checkpoint, 0o755))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			s.given(treeVF1, initPod)
			spoil(s)
			_, err := s.pass()
			require.ErrorContains(t, err, "read which VFs the kubelet has given to pods")
			require.Empty(t, s.wrote)
		})
	}
	t.Run("none is no error", func(t *testing.T) {
		s := newStand(t)
		s.given(treeVF1, initPod)
		s.spoilCheckpoint(`{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{}},"Checksum":1}`)
		given, err := unlisted{checkpoint: s.Checkpoint}.given()
		require.NoError(t, err)
		require.Empty(t, given)
	})
	t.Run("no groups", func(t *testing.T) {
		s := newStand(t)
		s.given(treeVF1, initPod)
		_, err := s.pass()
		require.NoError(t, err)
		require.Empty(t, s.wrote)
		require.Equal(t, initPod, s.asked())
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
