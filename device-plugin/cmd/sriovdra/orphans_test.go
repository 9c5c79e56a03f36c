// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A kubelet that has lost its checkpoint never ends the claims of its pods. Their devices are
// free once nobody says that anybody has them, and not before: not while kubelet is silent,
// lists the pod, or lists nothing at all; not while the API server has the claim for its
// pod; and not while the VF's interface is in a pod.
func TestOrphansEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	w.orphansEvery = 10 * time.Millisecond
	w.mode("dra")
	w.awaitOffered(vfs(2)...)
	p, err := w.run("p")
	require.NoError(t, err)
	other, err := w.run("other")
	require.NoError(t, err)
	still := func(why string) {
		t.Helper()
		looks := w.looks.Load()
		w.await(func() bool { return w.looks.Load() >= looks+5 }, func() string { return "the driver does not look" })
		records, err := w.records()
		require.NoError(t, err)
		require.Contains(t, records, p.vf, why)
	}
	drop := func(c *testPod) {
		require.NoError(t, w.api.ResourceV1().ResourceClaims("team").Delete(t.Context(), c.claim.Name, metav1.DeleteOptions{}))
	}
	net := filepath.Join(w.dir, "tree/sys/bus/pci/devices", p.vf, "net")

	still("kubelet lists it")
	w.kube.Silence(true)
	w.kube.Forget()
	w.kube.Silence(false)
	still("kubelet lists nothing at all")
	w.kube.Hold("gpu.example.com/gpu", "gpu-0") // another pod
	still("the API server has the claim for its pod")
	require.NoError(t, os.Rename(net, net+".away"))
	drop(p)
	still("its interface is in a pod")
	w.kube.Silence(true)
	require.NoError(t, os.Rename(net+".away", net))
	w.kube.Silence(false)
	w.await(func() bool { r, err := w.records(); return err == nil && r[p.vf] == "" }, func() string { return "the claim is not ended" })
	records, err := w.records()
	require.NoError(t, err)
	require.Contains(t, records, other.vf, "the API server has it for its pod")
	drop(other)
	w.await(func() bool { return len(w.leftovers()) == 0 }, func() string { return "left: " + filepath.Join(w.leftovers()...) })
}
