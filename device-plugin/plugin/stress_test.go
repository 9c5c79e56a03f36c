// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sriovkit/sriovkit/device-plugin/internal/kubelettest"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/stretchr/testify/require"
)

// hands is the checker: which pod has which device, kept apart from everything that the
// plugin keeps.
type hands struct {
	t       *testing.T
	kubelet *kubelettest.Kubelet

	mu   sync.Mutex
	of   map[string]string          // resource by device
	held map[string]map[string]bool // devices by resource, as kubelet lists them
	// reserved has what kubelet chose, by resource and device, before anybody has it.
	reserved      map[string]bool
	given, denied int
}

// take notes that a pod got a device, and fails if another one has it.
func (h *hands) take(resource, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if other, taken := h.of[id]; taken {
		h.t.Errorf("%s was given out as %s while a pod has it as %s", id, resource, other)
	}
	h.of[id] = resource
	h.held[resource][id] = true
	h.given++
	h.tell(resource)
}

// release ends a pod: first for itself, then for kubelet's list.
func (h *hands) release(resource, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.of, id)
	delete(h.held[resource], id)
	delete(h.reserved, resource+id)
	h.tell(resource)
}

func (h *hands) refuse(resource, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.reserved, resource+id)
	h.denied++
}

func (h *hands) tell(resource string) {
	var ids []string
	for id := range h.held[resource] {
		ids = append(ids, id)
	}
	h.kubelet.Hold(resource, ids...)
}

// choose takes a device as kubelet would: healthy, and not one that a pod has as the same
// resource. Kubelet knows nothing of other resources.
func (h *hands) choose(resource string, random *rand.Rand) (string, bool) {
	healthy := h.kubelet.Healthy(resource)
	h.mu.Lock()
	defer h.mu.Unlock()
	for range 8 {
		if len(healthy) == 0 {
			break
		}
		if id := healthy[random.IntN(len(healthy))]; !h.reserved[resource+id] {
			h.reserved[resource+id] = true
			return id, true
		}
	}
	return "", false
}

// pods start and stop pods of a resource until stop closes, each with one device for a
// moment.
func (h *hands) pods(resource string, seed uint64, stop <-chan struct{}) {
	random := rand.New(rand.NewPCG(seed, seed))
	for {
		select {
		case <-stop:
			return
		default:
		}
		id, ok := h.choose(resource, random)
		if !ok {
			time.Sleep(time.Millisecond) // nothing is offered at the moment
			continue
		}
		if _, err := h.kubelet.Allocate(resource, id); err != nil {
			h.refuse(resource, id)
			continue
		}
		h.take(resource, id)
		time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond) // the life of the pod
		h.release(resource, id)
	}
}

// However reloads that move devices between pools fall between Allocate calls, no device is
// in two hands. RELOADS=1000 makes it long.
func TestReloadsUnderAllocations(t *testing.T) {
	reloads := 25
	if text := os.Getenv("RELOADS"); text != "" {
		var err error
		reloads, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	n := newNode(t, true)
	n.root = t.TempDir()
	require.NoError(t, sriovtest.Unpack(n.root, sriovtest.Generate(sriovtest.Spec{PFs: 1, VFs: 40, VFDriver: "vfio-pci"})))
	n.options.SysfsRoot, n.options.DevRoot = n.root, n.root
	ranges := func(border int) []string { // x has the VFs below, y those from there on
		return []string{pool("x", fmt.Sprintf(`"pfNames": ["pf0#0-%d"]`, border-1)), pool("y", fmt.Sprintf(`"pfNames": ["pf0#%d-39"]`, border))}
	}
	n.configure(ranges(20)...)
	k := n.kubelet()
	n.start()
	const x, y = "example.com/x", "example.com/y"
	k.AwaitCount(x, 20)
	k.AwaitCount(y, 20)
	h := &hands{t: t, kubelet: k, of: map[string]string{}, reserved: map[string]bool{}, held: map[string]map[string]bool{x: {}, y: {}}}
	stop := make(chan struct{})
	var group sync.WaitGroup
	for i, r := range []string{x, y, x, y, x, y, x, y, x, y, x, y} {
		group.Go(func() { h.pods(r, uint64(i+1), stop) })
	}
	random, border := rand.New(rand.NewPCG(7, 7)), 20
	for i := range reloads {
		border = 1 + (border+random.IntN(38))%39 // another one
		n.configure(ranges(border)...)
		n.eventually(func() bool { return testutil.ToFloat64(n.metrics.Reloads.WithLabelValues("ok")) >= float64(i+1) }, "no reload")
		n.rescans() // so that what pods released moves as well
	}
	close(stop)
	group.Wait()
	t.Logf("%d reloads: %d devices given out, %d refused", reloads, h.given, h.denied)
	require.Greater(t, h.given, reloads)
}
