// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A node goes to DRA while a pod has VF 0 through the device plugin, and back while a pod
// has a claim: neither notices, the others are offered at once, and what a pod lets go of
// is offered without anything else happening.
func TestMigratesLive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 3)
	vf := vfs(3)
	w.mode("")
	w.kube.AwaitDevices(resourceName, vf...)
	first, err := w.run("first")
	require.NoError(t, err)
	w.mode("dra")
	rest := []string{vf[0], vf[1], vf[2]}
	for i := range rest {
		if rest[i] == first.vf {
			rest = append(rest[:i], rest[i+1:]...)
			break
		}
	}
	w.awaitOffered(rest...)
	require.NoError(t, w.end(first))
	freed := time.Now()
	w.awaitOffered(vf...)
	t.Logf("offered %s after its pod let go", time.Since(freed).Round(time.Millisecond))

	second, err := w.run("second")
	require.NoError(t, err)
	require.NotNil(t, second.claim)
	w.mode("dra-leaving")
	w.awaitOffered()
	w.mode("dra-rest")
	w.kube.AwaitCount(resourceName, 2)
	third, err := w.run("third")
	require.NoError(t, err)
	require.Nil(t, third.claim)
	require.NotEqual(t, second.vf, third.vf)
	require.NoError(t, w.end(second))
	w.kube.AwaitCount(resourceName, 3)
	w.mode("")
	w.kube.AwaitDevices(resourceName, vf...)
	require.NoError(t, w.end(third))
	require.Empty(t, w.hands.faults())
}

// The meta plugin's word that a pod's network is gone is heard: kubelet, which counts the pod
// out a moment later, is asked until it has.
func TestFreedAfterASign(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2)
	w.mode("")
	w.kube.AwaitCount(resourceName, 2)
	p, err := w.run("p")
	require.NoError(t, err)
	w.mode("dra")
	w.await(func() bool { return len(w.offered()) == 1 }, func() string { return "the other is not offered" })
	sign := filepath.Join(w.dir, "attachments", "pod-p.json")
	require.NoError(t, os.WriteFile(sign, []byte("{}"), 0o644))
	require.NoError(t, os.Remove(sign))
	require.NoError(t, w.end(p))
	freed := time.Now()
	w.awaitOffered(vfs(2)...)
	t.Logf("offered %s after its pod let go", time.Since(freed).Round(time.Millisecond))
}

// flips is how often TestFlips takes the node there and back; make soak-dra has more.
func flips() int {
	n, _ := strconv.Atoi(os.Getenv("SRIOVKIT_FLIPS"))
	return cmp.Or(n, 3)
}

// The node flips under pods that come and go, some over several flips. No VF is in two
// hands, no pod waits for ever, is refused or loses what its containers need, and nothing
// is left in the end.
func TestFlips(t *testing.T) {
	t.Parallel()
	const workers, count = 6, 5
	w := newWorld(t, 1, count)
	w.mode("")
	w.kube.AwaitCount(resourceName, count)
	var done atomic.Bool
	var pods, byClaim atomic.Int64
	errs := make(chan error, workers+1)
	var group sync.WaitGroup
	for i := range workers {
		group.Go(func() { errs <- w.comeAndGo(i, &done, &pods, &byClaim) })
	}
	group.Go(func() { errs <- w.watchRecords(&done) })
	begun := time.Now()
	n := flips()
	for i := range n {
		before := byClaim.Load()
		w.mode("dra")
		w.await(func() bool { return byClaim.Load() > before || len(errs) > 0 }, func() string { return "no pod comes by claim" })
		before = pods.Load() - byClaim.Load()
		w.leave()
		w.await(func() bool { return pods.Load()-byClaim.Load() > before || len(errs) > 0 }, func() string { return "no pod comes through the device plugin" })
		if len(errs) > 0 {
			break
		}
		if i%10 == 9 {
			t.Logf("%d flips there and back, %d pods", i+1, pods.Load())
		}
	}
	done.Store(true)
	group.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	require.Empty(t, w.hands.faults())
	t.Logf("%d flips there and back in %s under %d pods, %d of them by claim", n, time.Since(begun).Round(time.Second), pods.Load(), byClaim.Load())
	w.mode("dra")
	w.awaitOffered(vfs(count)...)
	records, err := w.records()
	require.NoError(t, err)
	require.Empty(t, records)
}

// comeAndGo runs pods one after the other. Every eighth stays over a flip or two.
func (w *world) comeAndGo(worker int, done *atomic.Bool, pods, byClaim *atomic.Int64) error {
	random := rand.New(rand.NewPCG(uint64(worker), 1))
	for i := 0; !done.Load(); i++ {
		p, err := w.run(fmt.Sprintf("w%d-%d", worker, i))
		if errors.Is(err, errUnschedulable) {
			time.Sleep(tick)
			continue
		}
		if err != nil {
			return err
		}
		pods.Add(1)
		if p.claim != nil {
			byClaim.Add(1)
		}
		life := time.Duration(random.IntN(20)) * time.Millisecond
		if i%8 == 7 {
			life = time.Duration(random.IntN(1500)) * time.Millisecond
		}
		time.Sleep(life)
		if err := w.end(p); err != nil {
			return err
		}
	}
	return nil
}

// watchRecords compares, all the time, what is on disk with what kubelet's device manager
// has given out.
func (w *world) watchRecords(done *atomic.Bool) error {
	for !done.Load() {
		w.scheduling.Lock()
		records, err := w.records()
		for _, vf := range w.held {
			if claim, twice := records[vf]; twice {
				err = errors.Join(err, fmt.Errorf("%s is in the record of claim %s, and a pod has it through the device plugin", vf, claim))
			}
		}
		w.scheduling.Unlock()
		if err != nil {
			return err
		}
		time.Sleep(tick)
	}
	return nil
}

// What notices a VF in two hands would.
func TestHandsNotice(t *testing.T) {
	t.Parallel()
	var h hands
	h.take("0000:01:01.0", "a")
	h.take("0000:01:01.1", "b")
	h.let("0000:01:01.0")
	h.take("0000:01:01.0", "c")
	require.Empty(t, h.faults())
	h.take("0000:01:01.1", "d")
	require.Equal(t, []string{"0000:01:01.1 is given to d, and b has it"}, h.faults())
}
