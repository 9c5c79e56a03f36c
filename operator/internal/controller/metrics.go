// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/drain"
)

// Beside what controller-runtime counts (queues, reconciles, requests) and the topics do.
var (
	nodesDesc = prometheus.NewDesc("sriovkit_operator_nodes",
		"Nodes that take part, by how far their daemon is: Succeeded, InProgress, Failed, or Unreported.", []string{"sync"}, nil)
	drainingDesc = prometheus.NewDesc("sriovkit_operator_draining_nodes",
		"Nodes in the drain handshake: waiting for a slot, evicting, blocked by a disruption budget, or drained.", []string{"state"}, nil)
	policyDesc = prometheus.NewDesc("sriovkit_operator_policy_nodes",
		"Nodes that a policy matches, and those of them that are ready.", []string{"policy", "state"}, nil)
)

// standings counts node states and policies when asked, from the cache.
type standings struct {
	client.Reader
	namespace string
}

// Start reports until ctx ends. Only the replica that works is started, so that sums
// over replicas are right.
func (s *standings) Start(ctx context.Context) error {
	if err := metrics.Registry.Register(s); err != nil {
		return err
	}
	<-ctx.Done()
	metrics.Registry.Unregister(s)
	return nil
}

func (s *standings) Describe(ch chan<- *prometheus.Desc) {
	ch <- nodesDesc
	ch <- drainingDesc
	ch <- policyDesc
}

func (s *standings) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) // of waiting for the cache to fill
	defer cancel()
	var states v1.SriovNetworkNodeStateList
	var policies v1.SriovNetworkNodePolicyList
	if s.List(ctx, &states, client.InNamespace(s.namespace), client.UnsafeDisableDeepCopy) != nil ||
		s.List(ctx, &policies, client.InNamespace(s.namespace), client.UnsafeDisableDeepCopy) != nil {
		return // no figure rather than a wrong one
	}
	nodes := map[string]int{v1.SyncSucceeded: 0, v1.SyncInProgress: 0, v1.SyncFailed: 0, "Unreported": 0}
	draining := map[string]int{"waiting": 0, "evicting": 0, "blocked": 0, "drained": 0}
	for i := range states.Items {
		state := &states.Items[i]
		if state.Annotations[v1.AnnotationKeepUntil] != "" {
			continue // its node is gone
		}
		sync := state.Status.SyncStatus
		if sync == "" {
			sync = "Unreported"
		}
		nodes[sync]++
		if at := drain.Stage(state); at != "" {
			draining[at]++
		}
	}
	gauge := func(desc *prometheus.Desc, n int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), labels...)
	}
	for sync, n := range nodes {
		gauge(nodesDesc, n, sync)
	}
	for at, n := range draining {
		gauge(drainingDesc, n, at)
	}
	for i := range policies.Items {
		p := &policies.Items[i]
		gauge(policyDesc, p.Status.MatchedNodes, p.Name, "matched")
		gauge(policyDesc, p.Status.ReadyNodes, p.Name, "ready")
	}
}
