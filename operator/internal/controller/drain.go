package controller

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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

// sizeAge is how old the number of a pool's nodes may be.
const sizeAge = time.Second

// busy reports whether a node is being drained, or is drained.
func busy(state *v1.SriovNetworkNodeState) bool {
	c := state.Annotations[v1.AnnotationCurrentState]
	return c == v1.Draining || c == v1.DrainComplete
}

// waiting reports whether a node waits for its turn.
func waiting(state *v1.SriovNetworkNodeState) bool {
	return wants(state.Annotations[v1.AnnotationDesiredState]) && state.Annotations[v1.AnnotationCurrentState] == v1.DrainIdle
}

// wants reports whether what a daemon desires is a drain.
func wants(desired string) bool { return desired == v1.DrainRequired || desired == v1.RebootRequired }

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
	*Client
	Operator
	Live client.Reader // past the cache: pods and the node, only while draining
	// Wake is told the nodes that may have their turn now.
	Wake func(nodes []string)

	slots slots

	mu     sync.Mutex
	seeded bool // slots knows the nodes that were being drained before the start
	sizes  map[types.UID]poolSize
}

type poolSize struct {
	nodes      int
	generation int64
	counted    time.Time
}

// Reconcile moves one node's handshake on.
func (r *Drainer) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var state v1.SriovNetworkNodeState
	if err := r.Get(ctx, req.NamespacedName, &state); err != nil {
		return ctrl.Result{}, r.gone(req.Name, err)
	}
	if state.Annotations[v1.AnnotationExternalDrainer] == "true" {
		return ctrl.Result{}, nil
	}
	desired, current := state.Annotations[v1.AnnotationDesiredState], state.Annotations[v1.AnnotationCurrentState]
	node := nodeMeta()
	if err := r.Get(ctx, client.ObjectKey{Name: req.Name}, node); err != nil {
		return ctrl.Result{}, r.gone(req.Name, err)
	}
	if desired != "" && (node.Annotations[v1.AnnotationNodeState] != "" || desired != v1.DrainIdle) {
		if err := r.mirror(ctx, node, desired); err != nil {
			return ctrl.Result{}, err
		}
	}
	if busy(&state) {
		pool, err := r.pool(ctx, node)
		if err != nil {
			return ctrl.Result{}, err
		}
		r.slots.hold(req.Name, pool)
	}
	switch {
	case waiting(&state):
		return r.begin(ctx, node, &state)
	case wants(desired) && current == v1.Draining:
		return r.evict(ctx, &state, desired == v1.RebootRequired)
	case desired == v1.DrainIdle && busy(&state):
		return ctrl.Result{}, r.finish(ctx, &state)
	case desired == v1.DrainIdle && current == v1.DrainIdle:
		r.Wake(r.slots.free(req.Name))
	}
	return ctrl.Result{}, nil
}

// gone gives back the slot of a node that is not there any more.
func (r *Drainer) gone(node string, err error) error {
	if err = client.IgnoreNotFound(err); err == nil {
		r.Wake(r.slots.free(node))
	}
	return err
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
		r.Wake(r.slots.free(state.Name))
		return ctrl.Result{}, err
	}
	drains.Inc()
	return ctrl.Result{}, nil
}

// take reserves a slot; why says what stands against it.
func (r *Drainer) take(ctx context.Context, node *metav1.PartialObjectMetadata) (why string, err error) {
	if err := r.seed(ctx); err != nil {
		return "", err
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
	if used, ok := r.slots.take(node.Name, name, room); !ok {
		return fmt.Sprintf("%d of %d nodes that may be unavailable at once are being drained", used, room), nil
	}
	return "", nil
}

// seed makes the slots known that were in use before the start.
func (r *Drainer) seed(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seeded {
		return nil
	}
	var states v1.SriovNetworkNodeStateList
	if err := r.List(ctx, &states, client.InNamespace(r.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	for i := range states.Items {
		if !busy(&states.Items[i]) {
			continue
		}
		node := nodeMeta()
		if err := r.Get(ctx, client.ObjectKey{Name: states.Items[i].Name}, node, client.UnsafeDisableDeepCopy); client.IgnoreNotFound(err) != nil {
			return err
		} else if err != nil {
			continue
		}
		pool, err := r.pool(ctx, node)
		if err != nil {
			return err
		}
		r.slots.hold(node.Name, pool)
	}
	r.seeded = true
	return nil
}

// room is how many nodes of a pool may be drained at once. Only a percentage needs
// their number.
func (r *Drainer) room(ctx context.Context, p *v1.SriovNetworkPoolConfig) (int, error) {
	if p.Spec.MaxUnavailable == nil || p.Spec.MaxUnavailable.Type != intstr.String {
		return plan.PoolLimit(p.Spec.MaxUnavailable, 0)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	size := r.sizes[p.UID]
	if size.generation != p.Generation || time.Since(size.counted) > sizeAge {
		selector, err := plan.PoolSelector(p)
		if err != nil {
			return 0, err
		}
		members := nodeMetaList()
		if err := r.List(ctx, members, client.MatchingLabelsSelector{Selector: selector}, client.UnsafeDisableDeepCopy); err != nil {
			return 0, err
		}
		size = poolSize{nodes: len(members.Items), generation: p.Generation, counted: time.Now()}
		if r.sizes == nil {
			r.sizes = map[types.UID]poolSize{}
		}
		r.sizes[p.UID] = size
	}
	return plan.PoolLimit(p.Spec.MaxUnavailable, size.nodes)
}

// evict makes the node free of the pods in question, in as many rounds as it takes.
func (r *Drainer) evict(ctx context.Context, state *v1.SriovNetworkNodeState, all bool) (ctrl.Result, error) {
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
	r.Wake(r.slots.free(state.Name))
	return nil
}

// pool names the first pool of a node; "" is that of the nodes in none.
func (r *Drainer) pool(ctx context.Context, node *metav1.PartialObjectMetadata) (string, error) {
	in, err := poolsOf(ctx, r, r.Namespace, node.Labels)
	if err != nil || len(in) == 0 {
		return "", err
	}
	return in[0].Name, nil
}

// set writes the operator's answer.
func (r *Drainer) set(ctx context.Context, state *v1.SriovNetworkNodeState, current string) error {
	state.Annotations[v1.AnnotationCurrentState] = current
	return r.mergePatch(ctx, state, "", map[string]any{"metadata": map[string]any{
		"resourceVersion": state.ResourceVersion, "annotations": map[string]any{v1.AnnotationCurrentState: current},
	}})
}

func (r *Drainer) say(ctx context.Context, state *v1.SriovNetworkNodeState, status metav1.ConditionStatus, reason, message string) error {
	return r.patchConditions(ctx, state, &state.Status.Conditions, metav1.Condition{
		Type: v1.ConditionDrained, Status: status, Reason: reason, Message: message,
	})
}

// mirror shows the daemon's wish on the Node, where other tools look for it.
func (r *Drainer) mirror(ctx context.Context, node *metav1.PartialObjectMetadata, desired string) error {
	if node.Annotations[v1.AnnotationNodeState] == desired {
		return nil
	}
	return client.IgnoreNotFound(r.mergePatch(ctx, node, "", map[string]any{"metadata": map[string]any{
		"annotations": map[string]any{v1.AnnotationNodeState: desired},
	}}))
}
