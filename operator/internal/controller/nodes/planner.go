// SPDX-License-Identifier: Apache-2.0

// Package nodes keeps the SriovNetworkNodeState of every node as policies, pools and the
// node's own report say, and sums up by policy what became of it.
package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/controller/pools"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// planner keeps the SriovNetworkNodeState of one node as policies, pools and the
// node's own report say. A work item is a node's name.
//
// What it writes holds only for the version that it has read. Its own writes come back as
// events; those are dropped, for planning thousands of nodes twice would double the cost
// of each change. That is right only while nothing has been planned in between: a plan
// from a cache that does not show the write yet may equal what the cache shows, write
// nothing, and be wrong. So every reconcile first forgets what was written before: then
// the event of it is either in the cache that is read next, or still counts.
type planner struct {
	*apiclient.Client
	env.Operator
	Live    client.Reader // not the cache: before something is deleted
	Board   *board
	Leaving *leaving
	Pools   pools.Selectors
	// wrote has the versions of node states and of Nodes that their last reconcile wrote.
	wrote, labelled ownWrites
}

// ownWrites has, by node, the resource version of an object that was written last.
type ownWrites struct{ sync.Map }

// changed reports whether an event has to be acted on: it is of another's change, or of an own
// write that a plan made since did not see.
func (w *ownWrites) changed(obj client.Object) bool {
	version, ok := w.Load(obj.GetName())
	return !ok || version != obj.GetResourceVersion()
}

// News passes events of node states that are not the planner's own doing.
func (r *planner) News() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return r.wrote.changed(e.ObjectNew) }}
}

// NodeNews passes events of Nodes whose labels were changed, but not by the planner.
func (r *planner) NodeNews() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return !maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels()) && r.labelled.changed(e.ObjectNew)
	}}
}

// Reconcile plans one node.
func (r *planner) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	return apiclient.OrAgain(r.reconcile(ctx, req))
}

func (r *planner) reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	r.wrote.Delete(req.Name) // before anything is read
	r.labelled.Delete(req.Name)
	cfg, err := r.Config(ctx, r)
	if err != nil {
		return ctrl.Result{}, err
	}
	node := env.NodeMeta()
	if err := r.Get(ctx, client.ObjectKey{Name: req.Name}, node, client.UnsafeDisableDeepCopy); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	} else if err != nil {
		node = nil
	}
	// Shared with the cache, but for its annotations: whoever changes more copies it first.
	state := &v1.SriovNetworkNodeState{}
	if err := r.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: req.Name}, state, client.UnsafeDisableDeepCopy); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	} else if err != nil {
		state = nil
	} else {
		state.Annotations = maps.Clone(state.Annotations)
	}
	switch {
	case cfg == nil:
		// Not configured yet, or no more. Node states are left to their owner reference.
		r.Board.Forget(req.Name)
		leaving, err := r.Uninstalling(ctx, r)
		if err == nil && node != nil && (state == nil || leaving) {
			err = r.strip(ctx, node)
		}
		return ctrl.Result{}, err
	case node == nil || !node.DeletionTimestamp.IsZero() || !deploy.Selected(&cfg.Spec, node.Labels):
		return r.retire(ctx, node, state, req.Name)
	case state == nil:
		return ctrl.Result{}, r.create(ctx, cfg, req.Name)
	case !state.DeletionTimestamp.IsZero():
		return ctrl.Result{}, nil // its deletion is an event
	}
	again, err := r.plan(ctx, cfg, node, state)
	return ctrl.Result{RequeueAfter: again}, err
}

// create makes the state of a new node, with an empty spec: what to plan from comes
// from the node's daemon.
func (r *planner) create(ctx context.Context, cfg *v1.SriovOperatorConfig, name string) error {
	state := &v1.SriovNetworkNodeState{}
	state.Namespace, state.Name = r.Namespace, name
	r.adorn(state)
	if err := controllerutil.SetControllerReference(cfg, state, r.Scheme()); err != nil {
		return err
	}
	if err := r.Create(ctx, state); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create the state of node %s: %w", name, err)
	}
	return nil
}

// adorn adds the annotations that both sides of the drain handshake start from. The wish of
// a daemon whose node was away is not granted to the one that comes back: it asks itself,
// if it still wants a drain.
func (r *planner) adorn(state *v1.SriovNetworkNodeState) {
	if state.Annotations == nil {
		state.Annotations = map[string]string{}
	}
	if state.Annotations[v1.AnnotationKeepUntil] != "" {
		state.Annotations[v1.AnnotationDesiredState] = v1.DrainIdle
		delete(state.Annotations, v1.AnnotationDrainVFs)
		delete(state.Annotations, v1.AnnotationDrainPods)
		delete(state.Annotations, v1.AnnotationPodsAsked)
	}
	for _, k := range []string{v1.AnnotationDesiredState, v1.AnnotationCurrentState} {
		if state.Annotations[k] == "" {
			state.Annotations[k] = v1.DrainIdle
		}
	}
	delete(state.Annotations, v1.AnnotationKeepUntil)
	if r.ExternalDrainer {
		state.Annotations[v1.AnnotationExternalDrainer] = "true"
	} else {
		delete(state.Annotations, v1.AnnotationExternalDrainer)
	}
}

// plan writes the node's spec if it has to change: one patch, and none if not. again is when
// to look at the node's mode once more; 0 if there is nothing to wait for.
func (r *planner) plan(ctx context.Context, cfg *v1.SriovOperatorConfig, node *metav1.PartialObjectMetadata, state *v1.SriovNetworkNodeState) (again time.Duration, err error) {
	old := &v1.SriovNetworkNodeState{Spec: state.Spec} // the spec is replaced whole
	old.Annotations = maps.Clone(state.Annotations)
	r.adorn(state)
	pools, err := r.Pools.Of(ctx, r, r.Namespace, node.Labels)
	if err != nil {
		return 0, err
	}
	mode, err := r.mode(ctx, cfg, node, pools)
	if err != nil {
		return 0, err
	}
	if !reported(state) {
		if err := r.patch(ctx, old, state); err != nil {
			return 0, err
		}
		if err := r.label(ctx, node, node.Labels[v1.LabelDevicePlugin], mode.change); err != nil {
			return 0, err
		}
		return mode.again, r.conditions(ctx, state, modeCondition(state, mode))
	}
	policies, err := r.policies(ctx)
	if err != nil {
		return 0, err
	}
	in := plan.Input{Policies: policies, Labels: node.Labels, State: state}
	if len(pools) == 1 {
		in.RdmaMode = pools[0].Spec.RdmaMode
	}
	result := plan.Node(in)
	state.Spec = result.Spec
	state.Annotations[v1.AnnotationPlanned] = "true"
	state.Annotations[v1.AnnotationPlannedPFs] = functions(state)
	if size := large(state); size > objectLimit { // trying again changes nothing
		why := fmt.Sprintf("%d PFs with their VFs are planned, which makes the object %d bytes, more than the API server stores: select fewer", len(state.Spec.Interfaces), size)
		r.Board.Set(node.Name, state, result.Verdicts, why)
		return mode.again, r.conditions(ctx, state, notPlanned(state, v1.ReasonNotWritten, why), modeCondition(state, mode))
	}
	if err := r.patch(ctx, old, state); err != nil {
		if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && apierrors.ReasonForError(err) != metav1.StatusReasonUnknown { // it may never pass: another's webhook
			r.Board.Set(node.Name, state, result.Verdicts, err.Error())
			err = errors.Join(err, r.conditions(ctx, state, notPlanned(state, v1.ReasonNotWritten, err.Error())))
		}
		return 0, err
	}
	enabled := v1.DevicePluginDisabled
	if len(result.Spec.Interfaces) > 0 {
		enabled = v1.DevicePluginEnabled
	}
	if err := r.label(ctx, node, enabled, mode.change); err != nil {
		return 0, err
	}
	r.Board.Set(node.Name, state, result.Verdicts, "")
	return mode.again, r.conditions(ctx, state, reportConflicts(state, result.Verdicts), modeCondition(state, mode))
}

// objectLimit of what is sent, bytes. etcd takes 1.5 MiB, with what the cache leaves out:
// managed fields, and most VFs.
const objectLimit = 1 << 20

// large is how many bytes a node state has that may be too large; 0 for those of machines
// that there are.
func large(state *v1.SriovNetworkNodeState) int {
	if len(state.Spec.Interfaces) <= 256 {
		return 0
	}
	data, _ := json.Marshal(state) // what came as JSON goes as JSON
	return len(data)
}

// reported reports whether the daemon has said what the node has. A first look that failed
// names no function, which is not to say that there is none.
func reported(state *v1.SriovNetworkNodeState) bool {
	switch {
	case len(state.Status.Interfaces) > 0:
		return true
	case state.Status.SyncStatus == v1.SyncFailed:
		return state.Annotations[v1.AnnotationPlanned] == "true" // there were none once; something else fails now
	}
	return state.Status.SyncStatus != ""
}

// functions lists what the daemon has reported, for AnnotationPlannedPFs.
func functions(state *v1.SriovNetworkNodeState) string {
	out := make([]string, len(state.Status.Interfaces))
	for i := range out {
		out[i] = state.Status.Interfaces[i].PciAddress
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// policies lists all of them, shared with the cache: planning does not change them.
func (r *planner) policies(ctx context.Context) ([]*v1.SriovNetworkNodePolicy, error) {
	var list v1.SriovNetworkNodePolicyList
	if err := r.List(ctx, &list, client.InNamespace(r.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	out := make([]*v1.SriovNetworkNodePolicy, 0, len(list.Items))
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp.IsZero() {
			out = append(out, &list.Items[i])
		}
	}
	return out, nil
}

// patch writes spec and annotations, if they differ.
func (r *planner) patch(ctx context.Context, old, state *v1.SriovNetworkNodeState) error {
	patch := map[string]any{}
	if spec := apiclient.Difference(old.Spec, state.Spec); len(spec) > 0 {
		patch["spec"] = spec
	}
	annotations := map[string]any{}
	for k, v := range state.Annotations {
		if had, ok := old.Annotations[k]; !ok || had != v {
			annotations[k] = v
		}
	}
	for k := range old.Annotations {
		if _, ok := state.Annotations[k]; !ok {
			annotations[k] = nil
		}
	}
	if len(annotations) > 0 {
		patch["metadata"] = map[string]any{"annotations": annotations}
	}
	if len(patch) == 0 {
		return nil
	}
	if err := r.MergePatch(ctx, state, "", patch); err != nil {
		return fmt.Errorf("write the spec of node %s: %w", state.Name, err)
	}
	r.wrote.Store(state.Name, state.ResourceVersion)
	nodeWrites.Inc()
	return nil
}

// reportConflicts returns the condition of a node state that names the policies which cannot be
// honoured on it, and what in its spec is not acted on; nil if there is neither and the
// condition has named none so far.
func reportConflicts(state *v1.SriovNetworkNodeState, verdicts []plan.Verdict) *metav1.Condition {
	faults := ""
	for _, v := range verdicts {
		if v.Reason == v1.ReasonInvalid || v.Reason == v1.ReasonConflict {
			faults = joinMessage(faults, "policy "+v.Policy+": "+v.Message)
		}
	}
	if len(state.Spec.Bridges.OVS) > 0 {
		faults = joinMessage(faults, "spec.bridges: OVS bridges are not managed by this operator; "+
			"the entries are kept for a return to the upstream operator, and can be removed if there will be none")
	}
	if faults != "" {
		return notPlanned(state, v1.ReasonInvalid, faults)
	}
	if had := meta.FindStatusCondition(state.Status.Conditions, v1.ConditionPlanned); had == nil || had.Status == metav1.ConditionTrue {
		return nil // no objection needs no words
	}
	return &metav1.Condition{Type: v1.ConditionPlanned, Status: metav1.ConditionTrue, Reason: v1.ReasonApplied, ObservedGeneration: state.Generation}
}

func notPlanned(state *v1.SriovNetworkNodeState, reason, message string) *metav1.Condition {
	return &metav1.Condition{Type: v1.ConditionPlanned, Status: metav1.ConditionFalse, Reason: reason, Message: message, ObservedGeneration: state.Generation}
}

// conditions writes those that are news into the node state.
func (r *planner) conditions(ctx context.Context, state *v1.SriovNetworkNodeState, news ...*metav1.Condition) error {
	var list []metav1.Condition
	for _, c := range news {
		if c != nil {
			list = append(list, *c)
		}
	}
	if len(list) == 0 {
		return nil
	}
	state = state.DeepCopy()
	return r.PatchConditions(ctx, state, &state.Status.Conditions, list...)
}

// label says on the Node whether it offers resources, and by whom.
func (r *planner) label(ctx context.Context, node *metav1.PartialObjectMetadata, enabled string, mode modeChange) error {
	labels, annotations := map[string]any{}, map[string]any{}
	if node.Labels[v1.LabelDevicePlugin] != enabled {
		labels[v1.LabelDevicePlugin] = enabled
	}
	mode.add(labels, annotations)
	if len(labels) == 0 && len(annotations) == 0 {
		return nil
	}
	return r.mark(ctx, node, map[string]any{"labels": labels, "annotations": annotations})
}

// strip takes from a Node that takes no part (any more) what the operator wrote on it; the
// cordon of a drain is drain's to lift.
func (r *planner) strip(ctx context.Context, node *metav1.PartialObjectMetadata) error {
	_, labelled := node.Labels[v1.LabelDevicePlugin]
	_, mirrored := node.Annotations[v1.AnnotationNodeState]
	mode := modeKept
	if modeOurs(node, false) { // the driver's pod goes by the selection of nodes, whatever the label
		mode = modeRemoved
	}
	if !labelled && !mirrored && mode == modeKept {
		return nil
	}
	labels, annotations := map[string]any{v1.LabelDevicePlugin: nil}, map[string]any{v1.AnnotationNodeState: nil}
	mode.add(labels, annotations)
	return r.mark(ctx, node, map[string]any{"labels": labels, "annotations": annotations})
}

func (r *planner) mark(ctx context.Context, node *metav1.PartialObjectMetadata, metadata map[string]any) error {
	wrote := node.DeepCopy() // node is the cache's
	if err := r.MergePatch(ctx, wrote, "", map[string]any{"metadata": metadata}); err != nil {
		return client.IgnoreNotFound(err)
	}
	r.labelled.Store(node.Name, wrote.ResourceVersion)
	return nil
}

func joinMessage(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}
