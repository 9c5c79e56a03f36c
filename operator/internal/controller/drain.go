package controller

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// evictAgain while pods are on their way out. Nothing announces that a disruption
// budget has room again.
const evictAgain = 2 * time.Second

// wakeAtOnce is how many waiting nodes of a pool are woken for one free slot.
const wakeAtOnce = 3

// BusyIndex of node states: "true" while their node is being drained or is drained.
const BusyIndex = "drain.busy"

// Busy is the value of BusyIndex.
func Busy(obj client.Object) []string {
	if c := obj.GetAnnotations()[v1.AnnotationCurrentState]; c == v1.Draining || c == v1.DrainComplete {
		return []string{"true"}
	}
	return nil
}

// WaitingIndex of node states: "true" while their node waits for its turn.
const WaitingIndex = "drain.waiting"

// Waiting is the value of WaitingIndex.
func Waiting(obj client.Object) []string {
	a := obj.GetAnnotations()
	if d := a[v1.AnnotationDesiredState]; (d == v1.DrainRequired || d == v1.RebootRequired) && a[v1.AnnotationCurrentState] == v1.DrainIdle {
		return []string{"true"}
	}
	return nil
}

// Drainer plays the operator's part of the drain handshake for one node:
//
//	desired (daemon)              current (here)           then
//	Idle                          Idle                     nothing to do
//	Drain_Required, Reboot_...    Idle                     take a slot of the pool: Draining
//	Drain_Required, Reboot_...    Draining                 cordon, evict, DrainComplete
//	Drain_Required, Reboot_...    DrainComplete            the daemon's turn
//	Idle                          Draining, DrainComplete  uncordon what was cordoned here: Idle
//
// Reboot_Required evicts every pod, Drain_Required those that hold a resource of ours.
type Drainer struct {
	client.Client
	Operator
	Live client.Reader // past the cache: pods and the node, only while draining
	// Wake is told the nodes that may have their turn now.
	Wake func(nodes []string)

	mu sync.Mutex
	// taken are slots given out that the cache may not show yet.
	taken map[string]bool
}

// Reconcile moves one node's handshake on.
func (r *Drainer) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var state v1.SriovNetworkNodeState
	if err := r.Get(ctx, req.NamespacedName, &state); err != nil {
		if client.IgnoreNotFound(err) == nil && r.free(req.Name) {
			return ctrl.Result{}, r.wakeNext(ctx, req.Name)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if state.Annotations[v1.AnnotationExternalDrainer] == "true" {
		return ctrl.Result{}, nil
	}
	desired, current := state.Annotations[v1.AnnotationDesiredState], state.Annotations[v1.AnnotationCurrentState]
	node := nodeMeta()
	if err := r.Get(ctx, client.ObjectKey{Name: req.Name}, node); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if desired != "" && (node.Annotations[v1.AnnotationNodeState] != "" || desired != v1.DrainIdle) {
		if err := r.mirror(ctx, node, desired); err != nil {
			return ctrl.Result{}, err
		}
	}
	wanted := desired == v1.DrainRequired || desired == v1.RebootRequired
	switch {
	case wanted && current == v1.DrainIdle:
		return r.begin(ctx, node, &state)
	case wanted && current == v1.Draining:
		return r.evict(ctx, &state, desired == v1.RebootRequired)
	case desired == v1.DrainIdle && (current == v1.Draining || current == v1.DrainComplete):
		return ctrl.Result{}, r.finish(ctx, &state)
	case desired == v1.DrainIdle && current == v1.DrainIdle:
		if r.free(req.Name) {
			return ctrl.Result{}, r.wakeNext(ctx, req.Name)
		}
	}
	return ctrl.Result{}, nil
}

// begin takes a slot of the node's pool, or leaves the node waiting for one.
func (r *Drainer) begin(ctx context.Context, node *metav1.PartialObjectMetadata, state *v1.SriovNetworkNodeState) (ctrl.Result, error) {
	why, err := r.take(ctx, node)
	if err != nil {
		return ctrl.Result{}, err
	}
	if why != "" {
		return ctrl.Result{}, r.say(ctx, state, metav1.ConditionFalse, v1.ReasonDrainQueued, why)
	}
	if err := r.set(ctx, state, v1.Draining); err != nil {
		r.free(state.Name)
		return ctrl.Result{}, err
	}
	drains.Inc()
	return ctrl.Result{}, nil
}

// take reserves a slot; why says what stands against it.
func (r *Drainer) take(ctx context.Context, node *metav1.PartialObjectMetadata) (why string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken[node.Name] {
		return "", nil
	}
	pools, err := poolsOf(ctx, r, r.Namespace, node.Labels)
	if err != nil {
		return "", err
	}
	if len(pools) > 1 {
		return fmt.Sprintf("the node is in pools %s and %s: leave it in one", pools[0].Name, pools[1].Name), nil
	}
	// Nodes in no pool are one pool of their own, drained one at a time.
	name, room := "", 1
	if len(pools) == 1 {
		name = pools[0].Name
		if room, err = r.room(ctx, pools[0]); err != nil {
			return fmt.Sprintf("pool %s: %v", name, err), nil
		}
	}
	busy, err := r.busy(ctx)
	if err != nil {
		return "", err
	}
	used := 0
	for other := range busy {
		if theirs, err := r.pool(ctx, other); client.IgnoreNotFound(err) != nil {
			return "", err
		} else if err == nil && theirs == name {
			used++
		}
	}
	if used >= room {
		return fmt.Sprintf("%d of %d nodes that may be unavailable at once are being drained", used, room), nil
	}
	if r.taken == nil {
		r.taken = map[string]bool{}
	}
	r.taken[node.Name] = true
	return "", nil
}

// room is how many nodes of a pool may be drained at once. Only a percentage needs
// their number.
func (r *Drainer) room(ctx context.Context, p *v1.SriovNetworkPoolConfig) (int, error) {
	members := nodeMetaList()
	if p.Spec.MaxUnavailable != nil && p.Spec.MaxUnavailable.Type == intstr.String {
		selector, err := plan.PoolSelector(p)
		if err != nil {
			return 0, err
		}
		if err := r.List(ctx, members, client.MatchingLabelsSelector{Selector: selector}, client.UnsafeDisableDeepCopy); err != nil {
			return 0, err
		}
	}
	return plan.PoolLimit(p.Spec.MaxUnavailable, len(members.Items))
}

// busy lists the nodes that hold a slot: those the cache shows, and those given one so
// recently that it does not.
func (r *Drainer) busy(ctx context.Context) (map[string]bool, error) {
	var states v1.SriovNetworkNodeStateList
	err := r.List(ctx, &states, client.InNamespace(r.Namespace), client.MatchingFields{BusyIndex: "true"}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, err
	}
	out := make(map[string]bool, len(states.Items)+len(r.taken))
	for i := range states.Items {
		out[states.Items[i].Name] = true
	}
	for name := range r.taken {
		out[name] = true
	}
	return out, nil
}

// free gives a slot back; held tells whether there was one.
func (r *Drainer) free(node string) (held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held = r.taken[node]
	delete(r.taken, node)
	return held
}

// evict makes the node free of the pods in question, in as many rounds as it takes.
func (r *Drainer) evict(ctx context.Context, state *v1.SriovNetworkNodeState, all bool) (ctrl.Result, error) {
	r.mu.Lock() // after a restart, the slots in use are known from here
	if r.taken == nil {
		r.taken = map[string]bool{}
	}
	r.taken[state.Name] = true
	r.mu.Unlock()

	cfg, err := r.config(ctx, r)
	if err != nil {
		return ctrl.Result{}, err
	}
	if cfg != nil && cfg.Spec.DisableDrain {
		return ctrl.Result{}, r.complete(ctx, state, "draining is disabled")
	}
	var node corev1.Node
	if err := r.Live.Get(ctx, client.ObjectKey{Name: state.Name}, &node); err != nil {
		return ctrl.Result{}, err
	}
	if err := cordon(ctx, r, &node); err != nil {
		return ctrl.Result{}, err
	}
	pods, err := evictable(ctx, r.Live, state.Name, r.ResourcePrefix, all)
	if err != nil {
		return ctrl.Result{}, err
	}
	if len(pods) == 0 {
		return ctrl.Result{}, r.complete(ctx, state, "")
	}
	blocked, err := evictPods(ctx, r, pods)
	if err != nil {
		return ctrl.Result{}, err
	}
	reason, message := v1.ReasonDraining, fmt.Sprintf("%d pods to go", len(pods))
	if blocked != "" {
		reason, message = v1.ReasonDrainBlocked, blocked
	}
	if err := r.say(ctx, state, metav1.ConditionFalse, reason, message); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: evictAgain}, nil
}

func (r *Drainer) complete(ctx context.Context, state *v1.SriovNetworkNodeState, message string) error {
	if err := r.set(ctx, state, v1.DrainComplete); err != nil {
		return err
	}
	return r.say(ctx, state, metav1.ConditionTrue, v1.ReasonDrainComplete, message)
}

// finish gives the node back and the slot to the next.
func (r *Drainer) finish(ctx context.Context, state *v1.SriovNetworkNodeState) error {
	var node corev1.Node
	if err := r.Live.Get(ctx, client.ObjectKey{Name: state.Name}, &node); client.IgnoreNotFound(err) != nil {
		return err
	} else if err == nil {
		if err := uncordon(ctx, r, &node); err != nil {
			return err
		}
	}
	if err := r.set(ctx, state, v1.DrainIdle); err != nil {
		return err
	}
	if err := r.say(ctx, state, metav1.ConditionTrue, v1.ReasonDrainIdle, ""); err != nil {
		logf.FromContext(ctx).Info("condition not written", "node", state.Name, "err", err.Error())
	}
	r.free(state.Name)
	return r.wakeNext(ctx, state.Name)
}

// wakeNext wakes nodes that wait for the slot that a node gave back: more than one, for
// the first may not want it any more, but not all of thousands.
func (r *Drainer) wakeNext(ctx context.Context, freed string) error {
	mine, err := r.pool(ctx, freed)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	var waiting v1.SriovNetworkNodeStateList
	if err := r.List(ctx, &waiting, client.InNamespace(r.Namespace), client.MatchingFields{WaitingIndex: "true"}, client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	var names []string
	for i := 0; i < len(waiting.Items) && len(names) < wakeAtOnce; i++ {
		if theirs, err := r.pool(ctx, waiting.Items[i].Name); err == nil && theirs == mine {
			names = append(names, waiting.Items[i].Name)
		}
	}
	r.Wake(names)
	return nil
}

// pool names the first pool of a node; "" is that of the nodes in none.
func (r *Drainer) pool(ctx context.Context, name string) (string, error) {
	node := nodeMeta()
	if err := r.Get(ctx, client.ObjectKey{Name: name}, node, client.UnsafeDisableDeepCopy); err != nil {
		return "", err
	}
	in, err := poolsOf(ctx, r, r.Namespace, node.Labels)
	if err != nil || len(in) == 0 {
		return "", err
	}
	return in[0].Name, nil
}

// set writes the operator's answer.
func (r *Drainer) set(ctx context.Context, state *v1.SriovNetworkNodeState, current string) error {
	state.Annotations[v1.AnnotationCurrentState] = current
	return mergePatch(ctx, r, state, "", map[string]any{"metadata": map[string]any{
		"resourceVersion": state.ResourceVersion, "annotations": map[string]any{v1.AnnotationCurrentState: current},
	}})
}

func (r *Drainer) say(ctx context.Context, state *v1.SriovNetworkNodeState, status metav1.ConditionStatus, reason, message string) error {
	return patchCondition(ctx, r, state, &state.Status.Conditions, metav1.Condition{
		Type: v1.ConditionDrained, Status: status, Reason: reason, Message: message,
	})
}

// mirror shows the daemon's wish on the Node, where other tools look for it.
func (r *Drainer) mirror(ctx context.Context, node *metav1.PartialObjectMetadata, desired string) error {
	if node.Annotations[v1.AnnotationNodeState] == desired {
		return nil
	}
	return client.IgnoreNotFound(mergePatch(ctx, r, node, "", map[string]any{"metadata": map[string]any{
		"annotations": map[string]any{v1.AnnotationNodeState: desired},
	}}))
}
