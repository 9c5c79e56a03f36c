// SPDX-License-Identifier: Apache-2.0

// Package dra keeps a DeviceClass for each resource while nodes use dynamic resource
// allocation.
package dra

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// Served reports whether DRA is in use and can be: the reconciler of classes has found
// the API, and keeps saying so until the last node is back with the device plugin. So
// classes are there before any node changes over, and drivers until none needs them.
func Served(cfg *v1.SriovOperatorConfig) bool {
	c := meta.FindStatusCondition(cfg.Status.Conditions, v1.ConditionDRA)
	return c != nil && c.Reason != v1.ReasonDRANotServed
}

// Default is the mode of nodes of which no pool says otherwise.
func Default(cfg *v1.SriovOperatorConfig) string {
	if cfg.Spec.FeatureGates[deploy.GateDRA] {
		return v1.ResourceModeDRA
	}
	return v1.ResourceModeDevicePlugin
}

// Wanted reports whether the gate or any pool of the namespace asks for DRA.
func Wanted(ctx context.Context, c client.Reader, namespace string, cfg *v1.SriovOperatorConfig) (bool, error) {
	if cfg.Spec.FeatureGates[deploy.GateDRA] {
		return true, nil
	}
	var pools v1.SriovNetworkPoolConfigList
	err := c.List(ctx, &pools, client.InNamespace(namespace), client.UnsafeDisableDeepCopy)
	return slices.ContainsFunc(pools.Items, func(p v1.SriovNetworkPoolConfig) bool {
		mode, err := plan.PoolMode(&p)
		return err == nil && mode == v1.ResourceModeDRA && p.DeletionTimestamp.IsZero() && p.Spec.OvsHardwareOffloadConfig.Name == ""
	}), err
}

// reconciler keeps one DeviceClass for each resource of the policies while the gate or
// a pool asks for DRA, and says in ConditionDRA what keeps it from working.
type reconciler struct {
	*apiclient.Client
	env.Operator
	Live client.Reader // not the cache: an API server may not have the kind
	// Watch wakes this reconciler when a DeviceClass changes.
	Watch func() error

	// Of the one worker: whether it watches, and that nobody left any class behind.
	watched, cleared bool
}

// notServedAgain is when to look again for an API, or a part of it, that was not there: an API
// server that is upgraded tells nobody.
const notServedAgain = time.Minute

// Reconcile brings all classes to what configuration, pools and policies ask for.
func (r *reconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	return apiclient.OrAgain(r.reconcile(ctx))
}

func (r *reconciler) reconcile(ctx context.Context) (ctrl.Result, error) {
	cfg, err := r.Config(ctx, r)
	if err != nil {
		return ctrl.Result{}, err
	}
	if cfg == nil {
		return ctrl.Result{}, r.clear(ctx)
	}
	cfg = cfg.DeepCopy()
	wanted, err := Wanted(ctx, r, r.Namespace, cfg)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !wanted {
		return ctrl.Result{}, r.end(ctx, cfg)
	}
	r.cleared = false
	cond := metav1.Condition{Type: v1.ConditionDRA, Status: metav1.ConditionTrue, Reason: v1.ReasonDRAReady, ObservedGeneration: cfg.Generation}
	var result ctrl.Result
	faults, dropped, err := r.sync(ctx)
	switch {
	case errors.Is(err, errNotServed):
		marked, err := r.marked(ctx, r)
		if err != nil {
			return ctrl.Result{}, err
		}
		if marked { // it was served: pods may have claims, and their driver and labels stay
			cond.Status, cond.Reason = metav1.ConditionFalse, v1.ReasonDRAIncomplete
			cond.Message = errNotServed.Error() + " any more: nodes in mode dra stay in it. If that is for good, take the label " + v1.LabelResourceMode + " from them"
			return ctrl.Result{RequeueAfter: notServedAgain}, r.PatchConditions(ctx, cfg, &cfg.Status.Conditions, cond)
		}
		cond.Status, cond.Reason = metav1.ConditionFalse, v1.ReasonDRANotServed
		cond.Message = errNotServed.Error() + ": nodes stay with the device plugin. Use Kubernetes 1.34 or newer, or turn " + deploy.GateDRA + " off"
		return ctrl.Result{RequeueAfter: notServedAgain}, r.PatchConditions(ctx, cfg, &cfg.Status.Conditions, cond)
	case err != nil:
		return ctrl.Result{}, err
	}
	if len(dropped) > 0 {
		faults = append(faults, "the API server drops extendedResourceName: on nodes in mode dra, pods get "+strings.Join(dropped, ", ")+
			" by claims only, not by resource limits. Use Kubernetes 1.36 or newer, or the feature gate DRAExtendedResource")
		result.RequeueAfter = notServedAgain
	}
	if len(faults) > 0 {
		cond.Status, cond.Reason, cond.Message = metav1.ConditionFalse, v1.ReasonDRAIncomplete, strings.Join(faults, "; ")
	}
	if !r.watched {
		if err := r.Watch(); err != nil {
			return ctrl.Result{}, fmt.Errorf("watch DeviceClasses: %w", err)
		}
		r.watched = true
	}
	return result, r.PatchConditions(ctx, cfg, &cfg.Status.Conditions, cond)
}

// end takes everything away once no node is in mode dra by the operator's doing.
func (r *reconciler) end(ctx context.Context, cfg *v1.SriovOperatorConfig) error {
	if meta.FindStatusCondition(cfg.Status.Conditions, v1.ConditionDRA) == nil {
		err := r.clear(ctx) // a configuration that is gone may have left some
		if apierrors.IsForbidden(err) {
			return nil // rights of before there were any: nor have classes been made
		}
		return err
	}
	if marked, err := r.marked(ctx, r); err != nil || marked {
		return err // the event of the last node wakes us
	}
	// The cache of Nodes may be behind the label that the planner has just set.
	if marked, err := r.marked(ctx, r.Live, client.HasLabels{v1.LabelResourceMode}); err != nil || marked {
		return err
	}
	r.cleared = false
	if err := r.clear(ctx); err != nil {
		return err
	}
	meta.RemoveStatusCondition(&cfg.Status.Conditions, v1.ConditionDRA)
	return r.PatchStatus(ctx, cfg, &cfg.Status.Conditions, map[string]any{}, true)
}

// marked reports whether the operator has set the mode of any node.
func (r *reconciler) marked(ctx context.Context, from client.Reader, which ...client.ListOption) (bool, error) {
	nodes := env.NodeMetaList()
	err := from.List(ctx, nodes, append(which, client.UnsafeDisableDeepCopy)...)
	return slices.ContainsFunc(nodes.Items, func(n metav1.PartialObjectMetadata) bool { return n.Annotations[v1.AnnotationModeSet] != "" }), err
}

// clear deletes the classes that the operator made.
func (r *reconciler) clear(ctx context.Context) error {
	if r.cleared {
		return nil
	}
	have, err := r.classes(ctx)
	if err != nil && !errors.Is(err, errNotServed) {
		return err
	}
	for i := range have {
		if !apiclient.Applied(&have[i]) {
			continue
		}
		if err := r.remove(ctx, &have[i]); err != nil {
			return err
		}
	}
	r.cleared = true
	return nil
}

func (r *reconciler) remove(ctx context.Context, c *resourcev1.DeviceClass) error {
	if err := client.IgnoreNotFound(r.Delete(ctx, c)); err != nil {
		return fmt.Errorf("delete DeviceClass %s: %w", c.Name, err)
	}
	return nil
}

var errNotServed = errors.New("the API server does not serve resource.k8s.io/v1")

func (r *reconciler) classes(ctx context.Context) ([]resourcev1.DeviceClass, error) {
	var list resourcev1.DeviceClassList
	err := r.Live.List(ctx, &list)
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil, errNotServed
	}
	return list.Items, err
}

// sync writes the classes that are to be, deletes the others that are the operator's, and
// says what cannot be had, and of which resources the API server drops the extended resource's
// name. Somebody else's class stays as it is.
func (r *reconciler) sync(ctx context.Context) (faults, dropped []string, err error) {
	var ns corev1.Namespace
	if err := r.Get(ctx, client.ObjectKey{Name: r.Namespace}, &ns); err != nil {
		return nil, nil, fmt.Errorf("the operator's namespace: %w", err)
	}
	names, faults, err := r.resources(ctx)
	if err != nil {
		return nil, nil, err
	}
	have, err := r.classes(ctx)
	if err != nil {
		return nil, nil, err
	}
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Namespace", Name: ns.Name, UID: ns.UID}
	wanted := map[string]bool{}
	for _, name := range names {
		class := deploy.DeviceClass(r.ResourcePrefix, name, owner)
		full := *class.Spec.ExtendedResourceName
		if other := foreign(have, class); other != "" {
			faults = append(faults, fmt.Sprintf("resource %s: DeviceClass %s is somebody else's and is left as it is: delete it, or rename the resource", full, other))
			// Ours may have been there before, and claims name it.
			if !slices.ContainsFunc(have, func(c resourcev1.DeviceClass) bool { return c.Name == class.Name && apiclient.Applied(&c) }) {
				continue
			}
		}
		wanted[class.Name] = true
		switch kept, err := r.write(ctx, have, class); {
		case apierrors.IsInvalid(err):
			faults = append(faults, err.Error())
		case err != nil:
			return faults, dropped, err
		case !kept:
			dropped = append(dropped, full)
		}
	}
	for i := range have {
		if apiclient.Applied(&have[i]) && !wanted[have[i].Name] {
			if err := r.remove(ctx, &have[i]); err != nil {
				return faults, dropped, err
			}
		}
	}
	return faults, dropped, nil
}

// resources names those of the policies, and says which of them DRA cannot offer.
func (r *reconciler) resources(ctx context.Context) (names, faults []string, err error) {
	var policies v1.SriovNetworkNodePolicyList
	if err := r.List(ctx, &policies, client.InNamespace(r.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, nil, err
	}
	for i := range policies.Items {
		p := &policies.Items[i]
		name := p.Spec.ResourceName
		if !p.DeletionTimestamp.IsZero() || p.Name == v1.DefaultConfigName || name == "" || slices.Contains(names, name) {
			continue
		}
		if err := plan.CheckDRAName(r.ResourcePrefix, name); err != nil {
			faults = append(faults, fmt.Sprintf("policy %s: %v", p.Name, err))
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	slices.Sort(faults)
	return names, faults, nil
}

// foreign names a class that somebody else made under the name, or for the resource, of one
// that is wanted. Of two for one resource the scheduler takes the newer.
func foreign(have []resourcev1.DeviceClass, want *resourcev1.DeviceClass) string {
	for i := range have {
		c := &have[i]
		same := c.Spec.ExtendedResourceName != nil && *c.Spec.ExtendedResourceName == *want.Spec.ExtendedResourceName
		if (same || c.Name == want.Name) && !apiclient.Applied(c) {
			return c.Name
		}
	}
	return ""
}

// write applies a class, without force: one that somebody makes meanwhile is a conflict.
// kept reports whether the API server stored the extended resource's name.
func (r *reconciler) write(ctx context.Context, have []resourcev1.DeviceClass, class *resourcev1.DeviceClass) (kept bool, err error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(class)
	if err != nil {
		return false, err
	}
	u := &unstructured.Unstructured{Object: content}
	opts := []client.ApplyOption{apiclient.FieldOwner}
	if slices.ContainsFunc(have, func(c resourcev1.DeviceClass) bool { return c.Name == class.Name }) {
		opts = append(opts, client.ForceOwnership) // ours, whoever edited it
	}
	if err := r.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), opts...); err != nil {
		return false, fmt.Errorf("apply DeviceClass %s: %w", class.Name, err)
	}
	_, kept, err = unstructured.NestedString(u.Object, "spec", "extendedResourceName")
	return kept, err
}
