// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"
)

// Two pods at a time, one after the other: no VF is in two records, and nothing is left.
func TestParallelCycles(t *testing.T) {
	t.Parallel()
	const cycles = 50
	w := newWorld(t, 1, 4)
	w.mode("dra")
	w.awaitOffered(vfs(4)...)
	var done atomic.Bool
	watched := make(chan error, 1)
	go func() { watched <- w.watchRecords(&done) }()
	var group sync.WaitGroup
	for i := range 2 {
		group.Go(func() {
			for j := range cycles {
				p, err := w.run(fmt.Sprintf("p%d-%d", i, j))
				if !assert.NoError(t, err) {
					return
				}
				assert.NoError(t, w.end(p))
			}
		})
	}
	group.Wait()
	done.Store(true)
	require.NoError(t, <-watched)
	require.Empty(t, w.hands.faults())
	require.Empty(t, w.leftovers())
}

// BenchmarkPrepare has kubelet prepare a claim and end it, over the driver's socket. The
// metric p99-ms is of Prepare alone; a record that is synced to the disk is most of it.
func BenchmarkPrepare(b *testing.B) {
	w := newWorld(b, 1, 4)
	w.mode("dra")
	w.awaitOffered(vfs(4)...)
	w.kube.AwaitDriver(driverName, true) // slices may come before kubelet knows the driver
	var took []time.Duration
	for b.Loop() {
		claim, _, err := w.allocate("bench")
		require.NoError(b, err)
		begun := time.Now()
		_, err = w.kube.Prepare(driverName, claim)
		took = append(took, time.Since(begun))
		require.NoError(b, err)
		require.NoError(b, w.kube.Unprepare(driverName, claim))
		require.NoError(b, w.api.ResourceV1().ResourceClaims("team").Delete(b.Context(), "bench", deleteNow))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// An API server that is away when a claim is prepared: the call says so, nothing is half
// done, and the next one, when it is back, succeeds. What pods have, they can end without it.
func TestAPIServerAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	w.mode("dra")
	w.awaitOffered(vfs(2)...)
	p, err := w.run("before")
	require.NoError(t, err)
	w.scheduling.Lock()
	claim, _, err := w.allocate("p")
	w.scheduling.Unlock()
	require.NoError(t, err)
	before := w.leftovers()
	var away atomic.Bool
	away.Store(true)
	w.reactions.Add("get", "resourceclaims", func(clienttesting.Action) (bool, runtime.Object, error) {
		return away.Load(), nil, errors.New("connection refused")
	})
	_, err = w.kube.Prepare(driverName, claim)
	require.ErrorContains(t, err, "connection refused")
	require.Equal(t, before, w.leftovers())
	require.NoError(t, w.kube.Unprepare(driverName, p.claim), "kubelet ends a pod without it")
	away.Store(false)
	_, err = w.kube.Prepare(driverName, claim)
	require.NoError(t, err)
	require.NoError(t, w.kube.Unprepare(driverName, claim))
	require.Empty(t, w.leftovers())
}

// A node that cannot be read may be one that is leaving: nothing is offered until it can.
func TestNothingIsOfferedOnAGuess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	var reads atomic.Int64
	var away, forbidden atomic.Bool
	away.Store(true)
	mode := w.api.CoreV1().Nodes()
	node, err := mode.Get(t.Context(), "node", getNow)
	require.NoError(t, err)
	node.Labels = map[string]string{"sriovkit.io/resource-mode": "dra-leaving"}
	_, err = mode.Update(t.Context(), node, updateNow)
	require.NoError(t, err)
	w.reactions.Add("get", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
		reads.Add(1)
		if forbidden.Load() { // rights of an older manifest
			return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "node", nil)
		}
		return away.Load(), nil, errors.New("away")
	})
	w.driver = w.newDriver()
	w.kube.AwaitDriver(driverName, true)
	w.await(func() bool { return reads.Load() > 1 }, func() string { return "the Node is not asked for again" })
	require.Empty(t, w.offered())
	forbidden.Store(true)
	before := reads.Load()
	w.await(func() bool { return reads.Load() > before+1 }, func() string { return "the Node is not asked for again" })
	require.Empty(t, w.offered())
	claim := newClaim("p", pool.DRAName(vfs(1)[0]))
	_, err = w.api.ResourceV1().ResourceClaims(claim.Namespace).Create(t.Context(), claim, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = w.kube.Prepare(driverName, claim)
	require.ErrorContains(t, err, "the Node's label is not read yet")
	forbidden.Store(false)
	away.Store(false)
	before = reads.Load()
	w.await(func() bool { return reads.Load() > before }, func() string { return "the Node is not read" })
	require.Empty(t, w.offered(), "it is leaving")
	w.mode("dra")
	w.awaitOffered(vfs(2)...)
}

// A rolling update has an old and a new instance side by side: the slices stay the same
// objects, and claims are prepared by either.
func TestTwoInstances(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 3)
	w.mode("dra")
	w.awaitOffered(vfs(3)...)
	list, err := w.api.ResourceV1().ResourceSlices().List(t.Context(), listNow)
	require.NoError(t, err)
	first := list.Items[0].Name
	old, err := w.run("old")
	require.NoError(t, err)
	fresh := w.newDriver()
	w.kube.AwaitInstances(driverName, 2)
	both, err := w.run("both")
	require.NoError(t, err)
	w.driver.end(t)
	w.driver = fresh
	w.kube.AwaitInstances(driverName, 1)
	late, err := w.run("late")
	require.NoError(t, err)
	for _, p := range []*testPod{old, both, late} {
		require.NoError(t, w.end(p))
	}
	require.Empty(t, w.hands.faults())
	require.Empty(t, w.leftovers())
	list, err = w.api.ResourceV1().ResourceSlices().List(t.Context(), listNow)
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	require.Equal(t, first, list.Items[0].Name)
}

// Kubelet starts anew: the driver registers again with it, and ends the pods that it had.
func TestKubeletRestarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	w.mode("dra")
	w.awaitOffered(vfs(2)...)
	p, err := w.run("p")
	require.NoError(t, err)
	w.kube.Stop()
	w.newKubelet()
	w.kube.AwaitDriver(driverName, true)
	q, err := w.run("q")
	require.NoError(t, err)
	require.NotEqual(t, p.vf, q.vf)
	require.NoError(t, w.end(p))
	require.NoError(t, w.end(q))
	require.Empty(t, w.leftovers())
}
