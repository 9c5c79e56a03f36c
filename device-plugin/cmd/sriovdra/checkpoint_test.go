// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/stretchr/testify/require"
	resourceapi "k8s.io/api/resource/v1"
)

func (w *world) checkpoint() string {
	return filepath.Join(w.root, "device-plugins/kubelet_internal_checkpoint")
}

// claim is one of a VF, whoever has it.
func (w *world) claim(name, vf string) *resourceapi.ResourceClaim {
	w.Helper()
	c := newClaim(name, pool.DRAName(vf))
	_ = w.api.ResourceV1().ResourceClaims(c.Namespace).Delete(w.Context(), name, deleteNow) // of an earlier attempt
	c, err := w.store(c)
	require.NoError(w, err)
	return c
}

// An init container, or one that has ended in a pod that has not, holds its VF through the
// device plugin though kubelet's list leaves it out: the VF is not offered to claims, and a
// claim that names it all the same is refused, whoever starts anew. It is offered when kubelet
// says that the pod is over, for which it is made to write its checkpoint.
func TestUnlistedHoldersKeepTheirVFs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 3)
	vf := vfs(3)
	w.mode("")
	w.kube.AwaitDevices(resourceName, vf...)
	listed, err := w.run("listed")
	require.NoError(t, err)
	vf = slices.DeleteFunc(vf, func(id string) bool { return id == listed.vf })
	_, err = w.kube.Allocate(resourceName, vf[0])
	require.NoError(t, err)
	w.kube.HoldUnlisted(resourceName, vf[0])

	w.mode("dra")
	w.awaitOffered(vf[1])
	w.kube.AwaitDriver(driverName, true)
	refused := func() {
		t.Helper()
		_, err := w.kube.Prepare(driverName, w.claim("greedy", vf[0]))
		require.ErrorContains(t, err, vf[0]+": the node does not offer this device")
	}
	refused()
	w.driver.end(t)
	w.driver = w.newDriver()
	w.kube.AwaitDriver(driverName, true)
	w.awaitOffered(vf[1])
	refused()
	w.kube.Stop()
	w.newKubelet()
	w.kube.HoldUnlisted(resourceName, vf[0])
	w.kube.Hold(resourceName, listed.vf)
	w.kube.AwaitDriver(driverName, true)
	refused()

	require.NoError(t, w.end(listed))
	w.awaitOffered(vf[1], listed.vf)
	w.kube.HoldUnlisted(resourceName) // which the checkpoint says once kubelet has written it
	w.awaitOffered(vfs(3)...)
	got, err := w.kube.Prepare(driverName, w.claim("next", vf[0]))
	require.NoError(t, err)
	require.Len(t, got.Devices, 1)
}

// A checkpoint that cannot be read is not one that names nobody. One that never could: nothing
// is offered and no claim is prepared. One that could: what is offered stays, no claim is
// prepared, and pods can end. Kubelet is made to write another.
func TestCheckpointThatIsNone(t *testing.T) {
	t.Parallel()
	write := func(text string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			_ = os.Remove(path)
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		}
	}
	for name, damage := range map[string]func(t *testing.T, path string){
		"truncated":               write(`{"Data":{"PodDeviceEntries":[{"PodUID":"u"`),
		"empty":                   write(""),
		"of another kubelet":      write(`{"v2":{"pods":[]}}`),
		"entry of another format": write(`{"Data":{"PodDeviceEntries":[{"PodUID":"u","ContainerName":"c","ResourceName":"example.com/vfs","Devices":["x"]}]}}`),
		"unreadable": func(t *testing.T, path string) {
			_ = os.Remove(path)
			require.NoError(t, os.Symlink(filepath.Base(path), path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, 2)
			vf := vfs(2)
			damage(t, w.checkpoint())
			w.mode("dra")
			w.await(func() bool { return w.kube.Lists(noDevices.String()) > 0 }, func() string { return "kubelet is not asked for another" })
			require.Empty(t, w.offered())
			w.kube.AwaitDriver(driverName, false)
			w.kube.HoldUnlisted(resourceName, vf[0])
			w.awaitOffered(vf[1])
			w.kube.AwaitDriver(driverName, true)
			p, err := w.run("p")
			require.NoError(t, err)

			damage(t, w.checkpoint())
			_, err = w.kube.Prepare(driverName, w.claim("greedy", vf[0]))
			require.ErrorContains(t, err, vf[0]) // in doubt, or in use if kubelet was quick
			w.awaitOffered(vf[1])
			require.NoError(t, w.end(p))
		})
	}
}

// A driver that cannot see kubelet's directory does not take that for an empty one.
func TestCheckpointIsNotMounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	w.mode("dra")
	w.awaitOffered(vfs(2)...)
	w.kube.AwaitDriver(driverName, true)
	require.NoError(t, os.Rename(filepath.Join(w.root, "device-plugins"), filepath.Join(w.root, "away")))
	_, err := w.kube.Prepare(driverName, w.claim("p", vfs(2)[0]))
	require.ErrorContains(t, err, "the device manager's checkpoint does not tell which devices pods hold")
	require.ErrorContains(t, err, "mounted?")
}

// What a claim has the device plugin does not give to a pod, and what an init container has
// the driver does not prepare for a claim, though both were offered a moment ago: on a node
// that was labelled by hand both programs may run.
func TestBothAskBeforeTheyGive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	vf := vfs(2)
	w.mode("")
	w.kube.AwaitDevices(resourceName, vf...)
	w.driver = w.newDriver()
	w.awaitOffered(vf...)
	w.kube.AwaitDriver(driverName, true)
	claim := w.claim("first", vf[0])
	_, err := w.kube.Prepare(driverName, claim)
	require.NoError(t, err)
	_, err = w.kube.Allocate(resourceName, vf[0])
	require.ErrorContains(t, err, "claim team/first has it for pod first")
	_, err = w.kube.Allocate(resourceName, vf[1])
	require.NoError(t, err)
	w.kube.HoldUnlisted(resourceName, vf[1])
	_, err = w.kube.Prepare(driverName, w.claim("second", vf[1]))
	require.ErrorContains(t, err, vf[1]+": device is in use: a pod has it as "+resourceName+" through kubelet's device manager")
	require.NoError(t, w.kube.Unprepare(driverName, claim))
	_, err = w.kube.Allocate(resourceName, vf[0])
	require.NoError(t, err)
}
