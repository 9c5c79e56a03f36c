// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// lookAgain is the interval at which the host is observed without an event. It costs the
// node a few milliseconds, and the API server nothing if all is well.
const lookAgain = 10 * time.Minute

// Daemon keeps a node as its SriovNetworkNodeState says.
type Daemon struct {
	Client  client.Client
	Live    client.Reader // reads the API server, not the cache
	Events  events.EventRecorder
	Machine Machine
	// NodeState names the object: the operator's namespace, the node's name.
	NodeState client.ObjectKey
	// The files below tell which VFs are in use; "" leaves that source out.
	PodResources string // the kubelet's pod-resources socket
	Checkpoint   string // of the kubelet's device manager: see unlisted
	Claims       string // directory of the DRA driver's records: see claims
	Prepared     string // the kubelet's list of prepared claims: see prepared

	hardware hardware
	failing  attempt // the last one
	tries    int     // failures while the node is drained
}

// Setup registers the daemon with a manager whose cache holds just this node's state.
func (d *Daemon) Setup(mgr ctrl.Manager) error {
	d.hardware.changed = make(chan event.GenericEvent)
	if err := mgr.Add(manager.RunnableFunc(d.hardware.watch)); err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("node").
		For(&v1.SriovNetworkNodeState{}, builder.WithPredicates(
			predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		WatchesRawSource(source.Channel(d.hardware.changed, handler.Funcs{
			GenericFunc: func(_ context.Context, _ event.GenericEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				q.Add(reconcile.Request{NamespacedName: d.NodeState})
			},
		})).
		WithOptions(controller.Options{
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](500*time.Millisecond, 2*time.Minute),
		}).
		Complete(d)
}

// Reconcile observes the host once and does what the spec asks for, as far as VFs in use
// allow.
func (d *Daemon) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var state v1.SriovNetworkNodeState
	if err := d.Client.Get(ctx, req.NamespacedName, &state); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	again, err := d.reconcile(ctx, &state)
	switch {
	case apierrors.IsConflict(err): // the cache is behind and catches up by itself
		return ctrl.Result{RequeueAfter: settle}, nil
	case err != nil:
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: again}, nil
}

// reconcile makes one pass. again is when the next one is due if no event comes before.
func (d *Daemon) reconcile(ctx context.Context, state *v1.SriovNetworkNodeState) (again time.Duration, err error) {
	d.hardware.looking.Lock()
	defer d.hardware.looking.Unlock()
	s := d.observe(ctx)
	if s.err != nil && len(s.Interfaces) == 0 {
		return 0, errors.Join(s.err, d.report(ctx, state, s.Found, failed(v1.ReasonDiscoverFailed, s.err)))
	}
	works, problems := d.steps(state, s)
	d.hardware.observed.Store(s.events)
	held, unclear, err := d.holders(ctx, state, works, s.Found)
	if err != nil {
		return 0, d.fail(ctx, state, s.Found, err)
	}
	works, asks, err := d.consider(ctx, state, works, held, unclear)
	if err != nil {
		return 0, d.refused(ctx, state, s.Found, err)
	}
	p := d.permit(ctx, state, s.Found, works, held, asks.open)
	awaitingDrain.Set(float64(len(p.waiting)))
	if len(p.waiting) > 0 {
		if err := d.askDrain(ctx, state, p.waiting); err != nil {
			return 0, d.refused(ctx, state, s.Found, err)
		}
	}
	var done progress
	if len(p.now) > 0 { // even if other works wait for a drain
		if done, err = d.carryOut(ctx, state, s, p.now); err != nil {
			return 0, err
		}
		s = done.observation
	}
	errs := slices.Concat(p.refused, []error{s.err})
	for _, w := range p.now {
		if err := done.failures[w.PF]; err != nil && !slices.Contains(errs, err) {
			errs = append(errs, err)
		}
	}
	for _, p := range problems {
		errs = append(errs, fmt.Errorf("%s: %w", orNode(p.PF), p.Err))
	}
	errs = append(errs, d.offer(ctx, s, state, nil))
	if done.late && errors.Join(errs...) == nil {
		return settle, nil // the next pass asks for a drain
	}
	kept := false
	if len(done.failures) > 0 && drained(state) {
		if kept, err = d.keepsDrain(state, s.Found, done.failures); err != nil {
			errs = append(errs, err)
		}
	}
	err = errors.Join(errs...)
	d.warn(state, err)
	report := d.report(ctx, state, s.Found, ended(state, p, err))
	again = done.again(asks.again())
	if kept || len(p.waiting) > 0 || len(p.asked) > 0 {
		return again, errors.Join(err, report)
	}
	return again, errors.Join(err, report, d.endDrain(ctx, state, err == nil && !asks.stands))
}

// fail reports an error that ended a pass before anything was changed.
func (d *Daemon) fail(ctx context.Context, state *v1.SriovNetworkNodeState, found Found, err error) error {
	d.warn(state, err)
	return errors.Join(err, d.report(ctx, state, found, failed(v1.ReasonApplyFailed, err)))
}

// refused handles the failure of an annotation that asks the operator something. If the API
// server rejects it, as it does while its ValidatingAdmissionPolicy is older than the daemon,
// that is reported in the status. Other errors are only returned: a retry mends them.
func (d *Daemon) refused(ctx context.Context, state *v1.SriovNetworkNodeState, found Found, err error) error {
	if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
		return err
	}
	return d.fail(ctx, state, found, fmt.Errorf("the API server refuses what the operator is to be asked before VFs in use are changed. Apply the operator's manifests "+
		"of this version, of which the ValidatingAdmissionPolicy sriov-network-config-daemon is one: %w", err))
}

// warn emits an event for an error that is not in the status yet.
func (d *Daemon) warn(state *v1.SriovNetworkNodeState, err error) {
	if err == nil || firstBytes(failed("", err).message, messageBytes) == state.Status.LastSyncError {
		return
	}
	d.Events.Eventf(state, nil, corev1.EventTypeWarning, v1.ReasonApplyFailed, "Apply", "%s", firstBytes(err.Error(), 900))
}

// observation is the state of the host at one time.
type observation struct {
	Found
	owned  map[string]plan.Owned
	bound  map[string]bool // VFs, by PCI address, that have the driver that a claim asked for
	events uint64          // number of the last kernel event that it covers: see libsriov.Host.Events
	err    error           // what could not be read
}

func (d *Daemon) observe(ctx context.Context) observation {
	begun := time.Now()
	var s observation
	s.events, _ = d.Machine.Host.Events() // 0 if it cannot be read: then no event counts as covered
	s.Found, s.err = Discover(d.Machine.Host)
	var err error
	if s.owned, err = d.Machine.Files.Owned(); err != nil {
		s.Partial, s.err = errors.Join(s.Partial, err), errors.Join(s.err, err)
	}
	records, _, err := claims{d.Claims}.read() // after the drivers, for a record precedes its bind
	if err != nil {
		s.Partial, s.err = errors.Join(s.Partial, err), errors.Join(s.err, err)
	}
	s.bound = map[string]bool{}
	for vf, c := range records {
		s.bound[vf] = c.bound
	}
	d.hardware.noteLinks(s.Interfaces)
	logf.FromContext(ctx).V(1).Info("looked at the host", "took", time.Since(begun).String())
	return s
}

// ended returns the outcome of a pass.
func ended(state *v1.SriovNetworkNodeState, p permission, err error) outcome {
	switch {
	case err != nil:
		return failed(v1.ReasonApplyFailed, err)
	case len(p.waiting) > 0:
		return outcome{sync: v1.SyncInProgress, reason: v1.ReasonWaitingDrain, message: "VFs in use would be disturbed: " + holders(p.waiting)}
	case len(p.asked) > 0:
		return outcome{sync: v1.SyncInProgress, reason: v1.ReasonWaitingAnswer, message: "the operator is asked whether pods are still on the node that " +
			"the kubelet has given VFs and that have not begun: " + holders(p.asked) + "; one that does not run, or is older than this daemon, does not answer"}
	case state.Annotations[v1.AnnotationPlanned] != "true" && len(state.Spec.Interfaces) == 0:
		return outcome{sync: v1.SyncSucceeded, reason: v1.ReasonWaitingPlan, message: "the operator has not planned this node yet"}
	}
	return outcome{sync: v1.SyncSucceeded, reason: v1.ReasonSynced}
}

func (d *Daemon) steps(state *v1.SriovNetworkNodeState, s observation) ([]plan.Work, []plan.Problem) {
	option, err := d.Machine.Files.RdmaOption()
	if err != nil { // not known: left alone
		option = state.Spec.System.RdmaMode
	}
	return plan.Steps(plan.Have{
		Interfaces: s.Interfaces, Bound: s.bound, RdmaMode: s.RdmaMode, RdmaErr: s.RdmaErr, RdmaOption: option, Owned: s.owned,
		NoMAC: d.Machine.Files.noMAC(s.Found), NoOffload: s.NoOffload, OurVDPA: s.OurVDPA, Unread: s.Unread, Partial: s.Partial,
		Planned: state.Annotations[v1.AnnotationPlanned] == "true", GUIDs: d.Machine.Files.GUIDs(), Unreported: unreported(state, s.Interfaces),
	}, state.Spec)
}

// unreported lists the PFs that the operator did not know of when it planned. The status does
// not tell which those are: the daemon may have written it after the plan.
func unreported(state *v1.SriovNetworkNodeState, found []v1.InterfaceExt) map[string]bool {
	var known []string
	if list, ok := state.Annotations[v1.AnnotationPlannedPFs]; ok {
		known = strings.Split(list, ",")
	} else { // planned by an older operator, which does not write the annotation
		for i := range state.Status.Interfaces {
			known = append(known, state.Status.Interfaces[i].PciAddress)
		}
	}
	out := map[string]bool{}
	for i := range found {
		if addr := found[i].PciAddress; !slices.Contains(known, addr) {
			out[addr] = true
		}
	}
	return out
}

func (d *Daemon) kubelet(state *v1.SriovNetworkNodeState) kubelet {
	groups := filepath.Join(d.Machine.Files.Root, "sys/fs/cgroup")
	return kubelet{d.PodResources, unlisted{d.Checkpoint, groups}, answersIn(state), claims{d.Claims}, prepared{d.Prepared}}
}

// holders returns who holds VFs, if the works would disturb any; for unclear see
// kubelet.query.
func (d *Daemon) holders(ctx context.Context, state *v1.SriovNetworkNodeState, works []plan.Work, found Found) (held, unclear map[string]string, err error) {
	if len(disturbs(works)) == 0 {
		return nil, nil, nil
	}
	return d.kubelet(state).query(ctx, found.Interfaces)
}

func disturbs(works []plan.Work) []string {
	var out []string
	for _, w := range works {
		out = append(out, w.Disturbs()...)
	}
	return out
}

// offer writes the device plugin's configuration: the VFs that are ready, without those that
// the works ahead disturb.
func (d *Daemon) offer(ctx context.Context, s observation, state *v1.SriovNetworkNodeState, ahead []plan.Work) error {
	withhold := map[string]bool{}
	for _, w := range ahead {
		for _, vf := range w.Disturbs() {
			withhold[vf] = true
		}
	}
	offered := plan.DevicePlugin(s.Interfaces, state.Spec, plan.Exceptions{Withhold: withhold, Bound: s.bound})
	countVFs(state.Spec, offered)
	changed, err := d.Machine.Files.Offer(offered)
	if err != nil {
		return fmt.Errorf("write the device plugin's configuration: %w", err)
	}
	if changed {
		logf.FromContext(ctx).Info("offered", "resources", len(offered.List))
	}
	return nil
}
