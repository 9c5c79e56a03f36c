package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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

// lookAgain even if no event came. It costs the node a few milliseconds and the
// API server nothing.
const lookAgain = 10 * time.Minute

// Daemon keeps one node as its SriovNetworkNodeState says.
type Daemon struct {
	Client  client.Client
	Events  events.EventRecorder
	Machine Machine
	// NodeState names the object: the operator's namespace, the node's name.
	NodeState client.ObjectKey
	// PodResources is the kubelet's pod-resources socket; "" looks at netdevs alone.
	PodResources string

	hardware hardware
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

// Reconcile looks, plans, and acts once.
func (d *Daemon) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var state v1.SriovNetworkNodeState
	if err := d.Client.Get(ctx, req.NamespacedName, &state); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	switch err := d.reconcile(ctx, &state); {
	case apierrors.IsConflict(err): // the cache is behind; the event that ends this is on its way
		return ctrl.Result{RequeueAfter: settle}, nil
	case err != nil:
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: lookAgain}, nil
}

func (d *Daemon) reconcile(ctx context.Context, state *v1.SriovNetworkNodeState) error {
	d.hardware.looking.Lock()
	defer d.hardware.looking.Unlock()
	found, events, discoverErr := d.look(ctx)
	owned, ownedErr := d.Machine.Files.Owned()
	if discoverErr != nil && len(found.Interfaces) == 0 {
		return errors.Join(discoverErr, d.report(ctx, state, found, failed(v1.ReasonDiscoverFailed, discoverErr)))
	}
	works, problems := d.steps(state, found, owned)
	d.hardware.seen.Store(events)

	held, err := d.disturbed(ctx, works, found)
	if err != nil {
		return errors.Join(err, d.report(ctx, state, found, failed(v1.ReasonApplyFailed, err)))
	}
	waiting, err := d.drain(ctx, state, held)
	if err != nil {
		return err
	}
	if waiting { // the rest can be done meanwhile
		works = slices.DeleteFunc(works, func(w plan.Work) bool { return anyIn(held, w.Disturbs()) })
	}

	var applyErr error
	if len(works) > 0 {
		if err := d.offer(ctx, found, state, works); err != nil {
			return err
		}
		// Also a check, by its resource version, that the spec is the newest: two policies
		// applied together must not make VFs twice.
		if err := d.report(ctx, state, found, outcome{sync: v1.SyncInProgress, reason: v1.ReasonApplying, message: summary(works)}); err != nil {
			return err
		}
		begun := time.Now()
		applyErr = d.apply(ctx, works, found, owned)
		applySeconds.Observe(time.Since(begun).Seconds())
		found, events, discoverErr = d.look(ctx)
		if applyErr != nil || d.settled(state, found) {
			d.hardware.seen.Store(events) // it was us; another look would be in vain
		}
		d.Events.Eventf(state, nil, corev1.EventTypeNormal, "Applied", "Apply", "%s", summary(works))
	}
	errs := []error{applyErr, discoverErr, ownedErr}
	for _, p := range problems {
		errs = append(errs, fmt.Errorf("%s: %w", orNode(p.PF), p.Err))
	}
	errs = append(errs, d.offer(ctx, found, state, nil))
	err = errors.Join(errs...)
	if err != nil {
		d.Events.Eventf(state, nil, corev1.EventTypeWarning, v1.ReasonApplyFailed, "Apply", "%s", firstBytes(err.Error(), 900))
	}
	err = errors.Join(err, d.report(ctx, state, found, ended(state, held, waiting, err)))
	if waiting {
		return err
	}
	return errors.Join(err, d.ask(ctx, state, v1.DrainIdle)) // done, or not wanted any more
}

// look reads the host. It sees what events up to the returned number tell of.
func (d *Daemon) look(ctx context.Context) (found Found, events uint64, err error) {
	begun := time.Now()
	events, _ = d.Machine.Host.Events() // 0 if it cannot be read: then every event is news
	found, err = Discover(d.Machine.Host)
	logf.FromContext(ctx).V(1).Info("looked at the host", "took", time.Since(begun).String())
	return found, events, err
}

// settled tells whether there is nothing more to do, also for what others have
// changed meanwhile.
func (d *Daemon) settled(state *v1.SriovNetworkNodeState, found Found) bool {
	owned, err := d.Machine.Files.Owned()
	works, _ := d.steps(state, found, owned)
	return err == nil && len(works) == 0
}

// ended is how far the node got.
func ended(state *v1.SriovNetworkNodeState, held map[string]bool, waiting bool, err error) outcome {
	switch {
	case err != nil:
		return failed(v1.ReasonApplyFailed, err)
	case waiting:
		return outcome{sync: v1.SyncInProgress, reason: v1.ReasonWaitingDrain, message: "VFs in use would be disturbed: " + list(held)}
	case state.Annotations[v1.AnnotationPlanned] != "true" && len(state.Spec.Interfaces) == 0:
		return outcome{sync: v1.SyncSucceeded, reason: v1.ReasonWaitingPlan, message: "the operator has not planned this node yet"}
	}
	return outcome{sync: v1.SyncSucceeded, reason: v1.ReasonSynced}
}

func (d *Daemon) steps(state *v1.SriovNetworkNodeState, found Found, owned map[string]plan.Owned) ([]plan.Work, []plan.Problem) {
	return plan.Steps(plan.Have{
		Interfaces: found.Interfaces, RdmaMode: found.RdmaMode, Owned: owned,
		Planned: state.Annotations[v1.AnnotationPlanned] == "true", GUIDs: d.Machine.Files.GUIDs(),
	}, state.Spec)
}

// apply does the works side by side: PFs do not depend on each other.
func (d *Daemon) apply(ctx context.Context, works []plan.Work, found Found, owned map[string]plan.Owned) error {
	log := logf.FromContext(ctx)
	errs := make([]error, len(works))
	var wg sync.WaitGroup
	for i, w := range works {
		pf := &v1.InterfaceExt{PciAddress: w.PF}
		if at := slices.IndexFunc(found.Interfaces, func(f v1.InterfaceExt) bool { return f.PciAddress == w.PF }); at >= 0 {
			pf = &found.Interfaces[at]
		}
		log.Info("changing", "pci", orNode(w.PF), "steps", summary([]plan.Work{w}))
		wg.Go(func() {
			start := time.Now()
			errs[i] = d.Machine.Apply(ctx, w, pf, owned[w.PF])
			log.V(1).Info("changed", "pci", orNode(w.PF), "took", time.Since(start).String(), "err", errs[i])
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// offer tells the device plugin about the VFs that are ready and that the works ahead
// leave in peace.
func (d *Daemon) offer(ctx context.Context, found Found, state *v1.SriovNetworkNodeState, ahead []plan.Work) error {
	withhold := map[string]bool{}
	for _, w := range ahead {
		for _, vf := range w.Disturbs() {
			withhold[vf] = true
		}
	}
	offered := plan.DevicePlugin(found.Interfaces, state.Spec, withhold)
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
