// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/pool"
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// hands notices a VF that two pods have. It knows nothing of either program.
type hands struct {
	mu   sync.Mutex
	has  map[string]string
	seen []string // faults
}

func (h *hands) take(vf, pod string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if other, taken := h.has[vf]; taken {
		h.seen = append(h.seen, fmt.Sprintf("%s is given to %s, and %s has it", vf, pod, other))
		return
	}
	if h.has == nil {
		h.has = map[string]string{}
	}
	h.has[vf] = pod
}

func (h *hands) let(vf string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.has, vf)
}

func (h *hands) faults() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.seen)
}

// pod has one VF.
type testPod struct {
	name, vf string
	claim    *resourceapi.ResourceClaim // nil: through the device plugin
}

var errUnschedulable = errors.New("no node has a free VF")

// run schedules a pod and starts it, as a cluster does with a pod that asks for the extended
// resource: the device plugin's come first. A claim that the driver refuses is asked for
// again until it is given.
func (w *world) run(name string) (*testPod, error) {
	w.scheduling.Lock()
	p, err := w.runWithPlugin(name)
	if err == nil || !errors.Is(err, errUnschedulable) {
		w.scheduling.Unlock()
		return p, err
	}
	claim, vf, err := w.allocate(name)
	w.scheduling.Unlock()
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(tick) {
		if _, err = w.kube.Prepare(driverName, claim); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("pod %s has waited for its claim for %s: %w", name, patience, err)
		}
	}
	w.hands.take(vf, name)
	claim.Annotations = map[string]string{running: "true"}
	_, err = w.api.ResourceV1().ResourceClaims(claim.Namespace).Update(context.Background(), claim, metav1.UpdateOptions{})
	return &testPod{name, vf, claim}, err
}

// runWithPlugin is kubelet's device manager: one call at a time, and what it gave it lists.
func (w *world) runWithPlugin(name string) (*testPod, error) {
	free := slices.DeleteFunc(w.kube.Healthy(resourceName), func(vf string) bool { return slices.Contains(w.held, vf) })
	for _, vf := range free {
		if _, err := w.kube.Allocate(resourceName, vf); err != nil {
			continue // the plugin goes, or has lost it: kubelet rejects the pod and its owner makes another
		}
		w.held = append(w.held, vf)
		w.kube.Hold(resourceName, w.held...)
		w.hands.take(vf, name)
		return &testPod{name, vf, nil}, nil
	}
	return nil, errUnschedulable
}

// allocate is the scheduler: a device that is offered and that no claim has.
func (w *world) allocate(name string) (*resourceapi.ResourceClaim, string, error) {
	taken := map[string]bool{}
	for _, c := range w.claims() {
		for _, r := range c.Status.Allocation.Devices.Results {
			taken[r.Device] = true
		}
	}
	for _, vf := range w.offered() {
		if device := pool.DRAName(vf); !taken[device] {
			claim, err := w.store(newClaim(name, device))
			return claim, vf, err
		}
	}
	return nil, "", errUnschedulable
}

// store makes a claim, and then its status, as the scheduler does.
func (w *world) store(c *resourceapi.ResourceClaim) (*resourceapi.ResourceClaim, error) {
	claims := w.api.ResourceV1().ResourceClaims(c.Namespace)
	stored, err := claims.Create(context.Background(), c.DeepCopy(), createNow)
	if err != nil {
		return nil, err
	}
	c.Status.DeepCopyInto(&stored.Status)
	return claims.UpdateStatus(context.Background(), stored, updateNow)
}

func newClaim(name, device string) *resourceapi.ResourceClaim {
	c := &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, UID: uuid.NewUUID()}}
	c.Spec.Devices.Requests = []resourceapi.DeviceRequest{{Name: "nic", Exactly: &resourceapi.ExactDeviceRequest{DeviceClassName: "vfs.example.com"}}}
	c.Status.ReservedFor = []resourceapi.ResourceClaimConsumerReference{{Resource: "pods", Name: name, UID: types.UID("pod-" + name)}}
	c.Status.Allocation = &resourceapi.AllocationResult{
		Devices: resourceapi.DeviceAllocationResult{
			Results: []resourceapi.DeviceRequestAllocationResult{{Request: "nic", Driver: driverName, Pool: "node", Device: device}},
		},
		// By this the API server knows whose driver may write the status.
		NodeSelector: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"node"}}},
		}}},
	}
	return c
}

// end ends a pod. It was whole to its end: what its containers need to start again is there.
func (w *world) end(p *testPod) error {
	files := []string{filepath.Join(w.dir, "devinfo", "example.com-vfs-"+p.vf+"-device.json")}
	if p.claim != nil {
		files = append(files, filepath.Join(w.dir, "cdi", fmt.Sprintf("%s_claim_%s.json", driverName, p.claim.UID)))
	}
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			return fmt.Errorf("pod %s is harmed: %w", p.name, err)
		}
	}
	w.hands.let(p.vf)
	if p.claim == nil {
		w.scheduling.Lock()
		defer w.scheduling.Unlock()
		w.held = slices.DeleteFunc(w.held, func(vf string) bool { return vf == p.vf })
		w.kube.Hold(resourceName, w.held...)
		return nil
	}
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(tick) {
		if err = w.kube.Unprepare(driverName, p.claim); err == nil {
			return w.api.ResourceV1().ResourceClaims(p.claim.Namespace).Delete(context.Background(), p.claim.Name, metav1.DeleteOptions{})
		}
	}
	return fmt.Errorf("pod %s cannot end: %w", p.name, err)
}
