// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// daemons answers for all nodes: a report at first sight and for every new spec, and
// the end of a drain once it is granted.
func (s *scale) daemons(ctx context.Context) {
	var g sync.WaitGroup
	defer g.Wait()
	slots := make(chan struct{}, 16)
	send := func(request func() error) {
		g.Go(func() {
			s.busy.RLock()
			defer s.busy.RUnlock()
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := request(); err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
				s.b.Errorf("a daemon's request: %v", err)
			}
		})
	}
	for ctx.Err() == nil {
		w, err := s.Watch(ctx, &v1.SriovNetworkNodeStateList{}, client.InNamespace(ns))
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		for e := range w.ResultChan() {
			state, ok := e.Object.(*v1.SriovNetworkNodeState)
			if !ok {
				break
			}
			c := s.note(state)
			if c.reported != c.generation {
				send(func() error { return s.answer(ctx, state) })
			}
			if c.desired == v1.DrainRequired && c.current == v1.DrainComplete {
				send(func() error { return s.ask(ctx, state.Name, v1.DrainIdle) })
			}
		}
	}
}

func (s *scale) note(state *v1.SriovNetworkNodeState) seen {
	c := seen{
		generation: state.Generation, planned: state.Annotations[v1.AnnotationPlanned] == "true",
		desired: state.Annotations[v1.AnnotationDesiredState], current: state.Annotations[v1.AnnotationCurrentState],
	}
	if len(state.Spec.Interfaces) > 0 {
		c.numVfs = state.Spec.Interfaces[0].NumVfs
	}
	if len(state.Status.Conditions) > 0 {
		c.reported = state.Status.Conditions[0].ObservedGeneration
	}
	s.mu.Lock()
	s.states[state.Name] = c
	busy := int64(0)
	if c.current == v1.Draining {
		for _, o := range s.states {
			if o.current == v1.Draining || o.current == v1.DrainComplete {
				busy++
			}
		}
	}
	s.mu.Unlock()
	if busy > s.drains.Load() {
		s.drains.Store(busy)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return c
}

// answer reports two PFs with their VFs, ready for the spec as it is.
func (s *scale) answer(ctx context.Context, state *v1.SriovNetworkNodeState) error {
	old := state.DeepCopy()
	state.Status.SyncStatus = v1.SyncSucceeded
	state.Status.Conditions = []metav1.Condition{{
		Type: v1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1.ReasonSynced, ObservedGeneration: state.Generation, LastTransitionTime: metav1.Now(),
	}}
	state.Status.Interfaces = nil
	for p := range 2 {
		pf := v1.InterfaceExt{
			Name: fmt.Sprintf("ens%d", p), PciAddress: fmt.Sprintf("0000:%02x:00.0", p+1), Vendor: "8086", DeviceID: "10c9", Driver: "igb",
			TotalVfs: 16, Mtu: 1500, LinkType: "ETH", LinkAdminState: "up", Mac: "02:00:00:00:00:01", LinkSpeed: "10000 Mb/s",
		}
		if len(state.Spec.Interfaces) > p {
			pf.NumVfs = state.Spec.Interfaces[p].NumVfs
		}
		for v := range pf.NumVfs {
			pf.VFs = append(pf.VFs, v1.VirtualFunction{
				Name: fmt.Sprintf("ens%dv%d", p, v), Mac: "02:00:00:00:00:02", Driver: "igbvf", PciAddress: fmt.Sprintf("0000:%02x:10.%d", p+1, v),
				Vendor: "8086", DeviceID: "10ca", Mtu: 1500, VfID: v,
			})
		}
		state.Status.Interfaces = append(state.Status.Interfaces, pf)
	}
	return s.Status().Patch(ctx, state, client.MergeFrom(old))
}
