// SPDX-License-Identifier: Apache-2.0

// Package drain is the operator's side of the drain handshake: it empties the node of a daemon
// that asks for that, and hands it back.
package drain

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/controller/pools"
)

// evictAgain is the pause between evictions while pods are still there. No event says that a
// disruption budget allows another one.
const evictAgain = 2 * time.Second

// sizeAge is how old the number of a pool's nodes may be.
const sizeAge = time.Second

// busy reports whether a node is being drained, or is drained.
func busy(state client.Object) bool {
	c := state.GetAnnotations()[v1.AnnotationCurrentState]
	return c == v1.Draining || c == v1.DrainComplete
}

// waiting reports whether a node waits for its turn.
func waiting(state *v1.SriovNetworkNodeState) bool {
	return wants(state.Annotations[v1.AnnotationDesiredState]) && state.Annotations[v1.AnnotationCurrentState] == v1.DrainIdle
}

// wants reports whether what a daemon desires is a drain.
func wants(desired string) bool { return desired == v1.DrainRequired || desired == v1.RebootRequired }

// drainer plays the operator's part of the drain handshake for one node:
//
//	desired (daemon)              current (here)           then
//	Idle                          Idle                     nothing to do
//	Drain_Required, Reboot_...    Idle                     take a slot of the pool: Draining
//	Drain_Required, Reboot_...    Draining                 cordon, evict, DrainComplete
//	Drain_Required, Reboot_...    DrainComplete            the daemon's turn
//	Idle                          Draining, DrainComplete  Idle, then uncordon what was cordoned here
//
// Reboot_Required evicts every pod, Drain_Required those that hold a VF of ours.
//
// DrainComplete permits the daemon to disturb pods' VFs, so it must not outlast the drain. It is
// withdrawn before the node takes new pods, by a write that fails if the daemon has asked for
// something else meanwhile. Where the daemon numbers its requests, DrainComplete is the answer to
// one number; for a newer one the node is examined again. A node whose state is deleted, or that
// is not selected any more, is uncordoned as if its daemon were done.
type drainer struct {
	*apiclient.Client
	env.Operator
	Live client.Reader // past the cache: for what cannot be taken back
	// Wake is told the nodes that may have their turn now.
	Wake func(nodes []string)

	slots slots
	pools pools.Selectors

	mu     sync.Mutex
	seeded bool // slots knows the nodes that were being drained before the start
	sizes  map[types.UID]poolSize
	pooled string // the pools, and their generations, by which slots knows whose each is
}

type poolSize struct {
	nodes      int
	generation int64
	counted    time.Time
}

// Reconcile moves one node's handshake on.
func (r *drainer) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	return apiclient.OrAgain(r.reconcile(ctx, req))
}

func (r *drainer) reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	node := env.NodeMeta()
	if err := r.Get(ctx, client.ObjectKey{Name: req.Name}, node); err != nil {
		return ctrl.Result{}, r.gone(req.Name, err)
	}
	if leaving, err := r.Uninstalling(ctx, r); err != nil {
		return ctrl.Result{}, err
	} else if leaving {
		if node.Annotations[v1.AnnotationCordoned] != "" { // if not yet, its event comes
			err = r.open(ctx, node.Name)
		}
		return ctrl.Result{}, err
	}
	var state v1.SriovNetworkNodeState
	if err := r.Get(ctx, req.NamespacedName, &state); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	} else if err != nil {
		return ctrl.Result{}, r.release(ctx, node)
	}
	if err := r.answerPods(ctx, &state); err != nil {
		return ctrl.Result{}, err
	}
	if state.Annotations[v1.AnnotationExternalDrainer] == "true" {
		return ctrl.Result{}, nil
	}
	desired, current := state.Annotations[v1.AnnotationDesiredState], state.Annotations[v1.AnnotationCurrentState]
	if desired != "" && state.Annotations[v1.AnnotationKeepUntil] == "" {
		if err := r.mirror(ctx, node, desired); err != nil {
			return ctrl.Result{}, err
		}
	}
	if state.Annotations[v1.AnnotationKeepUntil] != "" {
		desired = v1.DrainIdle // no daemon is there any more
	}
	if busy(&state) {
		pool, err := r.pool(ctx, node)
		if err != nil {
			return ctrl.Result{}, err
		}
		r.Wake(r.slots.hold(req.Name, pool))
	}
	switch {
	case wants(desired) && current == v1.DrainIdle:
		return r.begin(ctx, node, &state)
	case wants(desired) && current == v1.Draining:
		return r.evict(ctx, req)
	case wants(desired) && current == v1.DrainComplete && !answered(&state):
		return ctrl.Result{}, r.set(ctx, &state, v1.Draining)
	case desired == v1.DrainIdle && busy(&state):
		return ctrl.Result{}, r.finish(ctx, node, &state)
	case desired == v1.DrainIdle && current == v1.DrainIdle:
		return ctrl.Result{}, r.release(ctx, node)
	}
	return ctrl.Result{}, nil
}

// answered reports whether DrainComplete answers the wish that is there now. A daemon that
// does not number its wishes takes what there is.
func answered(state *v1.SriovNetworkNodeState) bool {
	request := state.Annotations[v1.AnnotationDrainRequest]
	return request == "" || request == state.Annotations[v1.AnnotationDrainAnswer]
}

// gone gives back the slot of a node, unless err says that something went wrong; that it
// was not found is no such error.
func (r *drainer) gone(node string, err error) error {
	if err = client.IgnoreNotFound(err); err == nil {
		r.Wake(r.slots.free(node))
	}
	return err
}

// release opens a node that is not being drained, if it was cordoned here, and gives its
// slot to the next.
func (r *drainer) release(ctx context.Context, meta *metav1.PartialObjectMetadata) error {
	if meta.Annotations[v1.AnnotationCordoned] != "" {
		var state v1.SriovNetworkNodeState
		err := r.Live.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: meta.Name}, &state)
		if client.IgnoreNotFound(err) != nil {
			return err
		}
		if err == nil && busy(&state) {
			return nil // the cache is behind: the event of it is on its way
		}
		return r.open(ctx, meta.Name)
	}
	r.Wake(r.slots.free(meta.Name))
	return nil
}

// open uncordons a node that was cordoned here.
func (r *drainer) open(ctx context.Context, name string) error {
	var node corev1.Node
	err := r.Live.Get(ctx, client.ObjectKey{Name: name}, &node)
	if err == nil {
		err = uncordon(ctx, r, &node)
	}
	return r.gone(name, err)
}

// begin takes a slot of the node's pool, or leaves the node waiting for one. Without a
// configuration it waits for that, whose creation is an event.
func (r *drainer) begin(ctx context.Context, node *metav1.PartialObjectMetadata, state *v1.SriovNetworkNodeState) (ctrl.Result, error) {
	if cfg, err := r.Config(ctx, r); err != nil || cfg == nil {
		return ctrl.Result{}, err
	}
	why, err := r.take(ctx, node)
	if err != nil {
		return ctrl.Result{}, r.gone(node.Name, err)
	}
	if why != "" {
		return ctrl.Result{}, r.say(ctx, state, metav1.ConditionFalse, v1.ReasonDrainQueued, why)
	}
	// The slot stays taken if this fails: the node may be Draining already, by a pass whose
	// echo the cache does not have yet. If it is not, the next pass takes it up or gives it back.
	if err := r.set(ctx, state, v1.Draining); err != nil {
		return ctrl.Result{}, err
	}
	drains.Inc()
	return ctrl.Result{}, nil
}

// evict makes the node free of the pods in question, in as many rounds as it takes. What it
// does cannot be undone, so it looks past the cache at whether it is still wanted.
func (r *drainer) evict(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var state v1.SriovNetworkNodeState
	if err := r.Live.Get(ctx, req.NamespacedName, &state); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err) // its deletion is an event
	}
	a := state.Annotations
	desired := a[v1.AnnotationDesiredState]
	if !wants(desired) || a[v1.AnnotationCurrentState] != v1.Draining || a[v1.AnnotationKeepUntil] != "" || a[v1.AnnotationExternalDrainer] == "true" {
		return ctrl.Result{}, nil // the event of it is on its way
	}
	cfg, err := r.Config(ctx, r.Live)
	if err != nil || cfg == nil { // without it no daemon is left that could use an empty node
		return ctrl.Result{}, err
	}
	if cfg.Spec.DisableDrain {
		return ctrl.Result{}, r.complete(ctx, &state, "draining is disabled")
	}
	left, err := r.empty(ctx, &state, desired == v1.RebootRequired)
	switch {
	case apierrors.IsConflict(err):
		return ctrl.Result{}, err
	case apierrors.IsNotFound(err):
		return ctrl.Result{}, r.gone(state.Name, err)
	case err != nil:
		return ctrl.Result{}, errors.Join(err, r.say(ctx, &state, metav1.ConditionFalse, v1.ReasonDrainBlocked, err.Error()))
	case left.done:
		return ctrl.Result{}, r.complete(ctx, &state, left.message)
	}
	return ctrl.Result{RequeueAfter: evictAgain}, r.say(ctx, &state, metav1.ConditionFalse, left.reason, left.message)
}

// remains is how far a node is from being empty.
type remains struct {
	done            bool
	reason, message string
}

// empty cordons the node and evicts once.
func (r *drainer) empty(ctx context.Context, state *v1.SriovNetworkNodeState, all bool) (remains, error) {
	var node corev1.Node
	if err := r.Live.Get(ctx, client.ObjectKey{Name: state.Name}, &node); err != nil {
		return remains{}, err
	}
	if err := cordon(ctx, r, &node); err != nil {
		return remains{}, fmt.Errorf("cordon the node: %w", err)
	}
	pods, err := r.occupants(ctx, state, all)
	if err != nil {
		return remains{}, err
	}
	if len(pods.leave) == 0 && len(pods.unknown) == 0 {
		return remains{done: true, message: apiclient.Some(pods.stay, podsNamed, "pods")}, nil
	}
	says, blocked := r.evictPods(ctx, pods.leave)
	out := remains{reason: v1.ReasonDraining, message: fmt.Sprintf("%d pods to go: %s",
		len(pods.leave)+len(pods.unknown), apiclient.Some(append(pods.unknown, says...), podsNamed, "pods"))}
	if blocked || len(pods.unknown) > 0 {
		out.reason = v1.ReasonDrainBlocked
	}
	return out, nil
}

func (r *drainer) complete(ctx context.Context, state *v1.SriovNetworkNodeState, message string) error {
	if err := r.set(ctx, state, v1.DrainComplete); err != nil {
		return err
	}
	return r.say(ctx, state, metav1.ConditionTrue, v1.ReasonDrainComplete, message)
}

// finish takes the permission back, and then gives the node back and the slot to the next.
func (r *drainer) finish(ctx context.Context, node *metav1.PartialObjectMetadata, state *v1.SriovNetworkNodeState) error {
	if err := r.set(ctx, state, v1.DrainIdle); err != nil {
		return err
	}
	node.SetAnnotations(map[string]string{v1.AnnotationCordoned: "unknown"}) // the cache may not show it yet
	if err := r.release(ctx, node); err != nil {
		return err // Idle, and cordoned by the operator: the next try releases it
	}
	if err := r.say(ctx, state, metav1.ConditionTrue, v1.ReasonDrainIdle, ""); err != nil {
		logf.FromContext(ctx).Info("condition not written", "node", state.Name, "err", err.Error())
	}
	return nil
}

// pool names the first pool of a node; "" is that of the nodes in none.
func (r *drainer) pool(ctx context.Context, node *metav1.PartialObjectMetadata) (string, error) {
	in, err := r.pools.Of(ctx, r, r.Namespace, node.Labels)
	return first(in), err
}

// first names the first of some pools; "" if there is none.
func first(pools []*v1.SriovNetworkPoolConfig) string {
	if len(pools) == 0 {
		return ""
	}
	return pools[0].Name
}

// set writes the operator's answer, and which wish DrainComplete is the answer to.
func (r *drainer) set(ctx context.Context, state *v1.SriovNetworkNodeState, current string) error {
	annotations := map[string]any{v1.AnnotationCurrentState: current}
	if request := state.Annotations[v1.AnnotationDrainRequest]; request != "" && current == v1.DrainComplete {
		annotations[v1.AnnotationDrainAnswer] = request
	}
	return r.MergePatch(ctx, state, "", map[string]any{"metadata": map[string]any{"annotations": annotations}})
}

func (r *drainer) say(ctx context.Context, state *v1.SriovNetworkNodeState, status metav1.ConditionStatus, reason, message string) error {
	return r.PatchConditions(ctx, state, &state.Status.Conditions, metav1.Condition{
		Type: v1.ConditionDrained, Status: status, Reason: reason, Message: message,
	})
}

// mirror shows the daemon's wish on the Node, where other tools look for it.
func (r *drainer) mirror(ctx context.Context, node *metav1.PartialObjectMetadata, desired string) error {
	if node.Annotations[v1.AnnotationNodeState] == desired {
		return nil
	}
	return client.IgnoreNotFound(r.MergePatch(ctx, node, "", map[string]any{"metadata": map[string]any{
		"annotations": map[string]any{v1.AnnotationNodeState: desired},
	}}))
}

// Stage is where a node is in the drain handshake; "" is
// not in it. The others are waiting, evicting, blocked and drained.
func Stage(state *v1.SriovNetworkNodeState) string {
	switch drained := meta.FindStatusCondition(state.Status.Conditions, v1.ConditionDrained); {
	case waiting(state):
		return "waiting"
	case state.Annotations[v1.AnnotationCurrentState] == v1.DrainComplete:
		return "drained"
	case !busy(state):
		return ""
	case drained != nil && drained.Reason == v1.ReasonDrainBlocked:
		return "blocked"
	}
	return "evicting"
}
