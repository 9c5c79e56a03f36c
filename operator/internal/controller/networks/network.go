// SPDX-License-Identifier: Apache-2.0

// Package networks keeps the NetworkAttachmentDefinitions of SriovNetworks, SriovIBNetworks
// and OVSNetworks.
package networks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
)

// ownerIndex of NetworkAttachmentDefinitions: their owner-ref annotation.
const ownerIndex = "nad.owner"

// owner is the value of ownerIndex.
func owner(obj client.Object) []string {
	if o := obj.GetAnnotations()[v1.AnnotationOwnerRef]; o != "" {
		return []string{o}
	}
	return nil
}

// reconciler keeps the NetworkAttachmentDefinition (NAD) of one network, of one of the three
// kinds. Deleting a network deletes it without a finalizer: one in the same namespace is
// owned by the network, one elsewhere by the operator's Namespace, and is deleted when the
// network is, or at the next start. A NAD that merely names a network which is not there,
// without such an owner, is not touched: a backup may bring the network a moment later.
type reconciler struct {
	*apiclient.Client
	env.Operator
	Live client.Reader // not the cache: before something is deleted
	Kind string        // "SriovNetwork", "SriovIBNetwork" or "OVSNetwork"
}

// network is an object of one of the three kinds.
type network struct {
	client.Object
	status *v1.NetworkStatus
}

// New makes an empty object of the reconciler's kind.
func (r *reconciler) New() client.Object { return r.empty().Object }

func (r *reconciler) empty() *network {
	switch r.Kind {
	case "SriovIBNetwork":
		o := &v1.SriovIBNetwork{}
		return &network{Object: o, status: &o.Status}
	case "OVSNetwork":
		o := &v1.OVSNetwork{}
		return &network{Object: o, status: &o.Status}
	}
	o := &v1.SriovNetwork{}
	return &network{Object: o, status: &o.Status}
}

// ownerRef is the value of the annotation by which a NAD names its network.
func (r *reconciler) ownerRef(key client.ObjectKey) string {
	return r.Kind + "." + v1.GroupVersion.Group + "/" + key.Namespace + "/" + key.Name
}

// notReadyError is a condition that keeps a network from being ready; trying again
// changes nothing.
type notReadyError struct{ reason, message string }

func (e *notReadyError) Error() string { return e.message }

// Reconcile makes one network's NAD.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	return apiclient.OrAgain(ctrl.Result{}, r.reconcile(ctx, req))
}

func (r *reconciler) reconcile(ctx context.Context, req ctrl.Request) error {
	n := r.empty()
	err := r.Get(ctx, req.NamespacedName, n.Object)
	if apierrors.IsNotFound(err) { // or the cache does not have it yet
		err = r.Live.Get(ctx, req.NamespacedName, n.Object)
	}
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if err != nil || !n.GetDeletionTimestamp().IsZero() {
		if err := r.remove(ctx, req.NamespacedName, "", nil); err != nil {
			return err
		}
	}
	if err != nil {
		return nil
	}
	if old := n.DeepCopyObject().(client.Object); controllerutil.RemoveFinalizer(n.Object, v1.FinalizerNetwork) {
		if err := r.Patch(ctx, n.Object, apiclient.Locked(old), apiclient.FieldOwner); err != nil {
			return client.IgnoreNotFound(err)
		}
	}
	if !n.GetDeletionTimestamp().IsZero() {
		return nil
	}
	ready := metav1.Condition{Type: v1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1.ReasonNetworkReady, ObservedGeneration: n.GetGeneration()}
	var not *notReadyError
	left, err := r.provide(ctx, n)
	switch ready.Message = left; {
	case errors.As(err, &not):
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, not.reason, not.message
		err = nil
	case apierrors.IsConflict(err):
		return err
	case err != nil: // it may never pass: a quota, another admission webhook
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1.ReasonNADNotWritten, err.Error()
	}
	return errors.Join(err, r.PatchConditions(ctx, n.Object, &n.status.Conditions, ready))
}

// provide brings the NAD to where and what the network says. What is left out of it is
// returned, for people.
func (r *reconciler) provide(ctx context.Context, n *network) (left string, err error) {
	source, _ := nad.SourceOf(n.Object) // one of the three kinds
	config, left, err := source.Config(r.Namespace)
	if err != nil {
		return "", &notReadyError{v1.ReasonNADInvalid, err.Error()}
	}
	if err := r.allowed(ctx, source); err != nil {
		return "", err
	}
	target := source.Target()
	want := &nad.NetworkAttachmentDefinition{Spec: nad.Spec{Config: config}}
	want.Namespace, want.Name = target, n.GetName()
	want.Annotations = map[string]string{
		v1.AnnotationResourceName: r.ResourcePrefix + "/" + source.Resource,
		v1.AnnotationOwnerRef:     r.ownerRef(client.ObjectKeyFromObject(n)),
	}
	if target == n.GetNamespace() {
		err = controllerutil.SetControllerReference(n.Object, want, r.Scheme())
	} else {
		err = r.belong(ctx, want)
	}
	if err != nil {
		return "", err
	}
	if err := r.write(ctx, n, want); err != nil {
		return "", err
	}
	return left, r.remove(ctx, client.ObjectKeyFromObject(n), target, n)
}

// forbidden is what keeps a network from naming its resource or its plugins, by the
// annotations of its namespace; nil is nothing.
func forbidden(source nad.Source, namespace map[string]string) *notReadyError {
	if err := source.Allowed(namespace); err != nil {
		return &notReadyError{v1.ReasonResourceForbidden, err.Error()}
	}
	if err := source.PluginsAllowed(namespace); err != nil {
		return &notReadyError{v1.ReasonPluginForbidden, err.Error()}
	}
	return nil
}

// allowed asks whether a namespace may name the resource and the plugins. A network that may
// not (any more) has no NAD.
func (r *reconciler) allowed(ctx context.Context, source nad.Source) error {
	if source.GetNamespace() == r.Namespace {
		return nil
	}
	var ns corev1.Namespace
	if err := r.Get(ctx, client.ObjectKey{Name: source.GetNamespace()}, &ns, client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	if forbidden(source, ns.Annotations) == nil {
		return nil
	}
	var now corev1.Namespace // pods may be about to use what is taken away
	if err := r.Live.Get(ctx, client.ObjectKey{Name: source.GetNamespace()}, &now); err != nil {
		return err
	}
	why := forbidden(source, now.Annotations)
	if why == nil {
		return nil
	}
	if err := r.remove(ctx, client.ObjectKey{Namespace: source.GetNamespace(), Name: source.GetName()}, "", nil); err != nil {
		return err
	}
	return why
}

// belong makes the Namespace of the operator the owner of a NAD in another one. The network
// lives there, and no object of a namespace can own one of another: so the NAD goes with
// the Namespace, whether or not an operator is left to delete it.
func (r *reconciler) belong(ctx context.Context, want *nad.NetworkAttachmentDefinition) error {
	var ns corev1.Namespace
	if err := r.Get(ctx, client.ObjectKey{Name: r.Namespace}, &ns, client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	want.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Namespace", Name: ns.Name, UID: ns.UID}}
	return nil
}

// write creates the NAD, or corrects the one that is there if it is the network's.
func (r *reconciler) write(ctx context.Context, n *network, want *nad.NetworkAttachmentDefinition) error {
	have := &nad.NetworkAttachmentDefinition{}
	err := r.Get(ctx, client.ObjectKeyFromObject(want), have)
	if apierrors.IsNotFound(err) {
		var ns corev1.Namespace
		err := r.Get(ctx, client.ObjectKey{Name: want.Namespace}, &ns)
		if apierrors.IsNotFound(err) || err == nil && !ns.DeletionTimestamp.IsZero() {
			return &notReadyError{v1.ReasonNamespaceNotFound, fmt.Sprintf("namespace %s is not there; the network waits for it", want.Namespace)}
		} else if err != nil {
			return err
		}
		if err := r.Create(ctx, want, apiclient.FieldOwner); !apierrors.IsAlreadyExists(err) {
			return err
		}
		err = r.Live.Get(ctx, client.ObjectKeyFromObject(want), have) // the cache does not show it yet
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	owner := have.Annotations[v1.AnnotationOwnerRef]
	if mine := owner == "" && metav1.IsControlledBy(have, n); !mine && owner != want.Annotations[v1.AnnotationOwnerRef] {
		return &notReadyError{v1.ReasonNADInvalid, fmt.Sprintf("a NetworkAttachmentDefinition %s/%s exists and belongs to %s: rename one of the two",
			have.Namespace, have.Name, orSomebody(owner))}
	}
	old := have.DeepCopyObject().(*nad.NetworkAttachmentDefinition)
	if have.Annotations == nil {
		have.Annotations = map[string]string{}
	}
	maps.Copy(have.Annotations, want.Annotations)
	have.Spec = want.Spec
	for _, owner := range want.OwnerReferences {
		if !slices.ContainsFunc(have.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == owner.UID }) {
			// Of a restored object, those of before name what is not there any more.
			have.OwnerReferences = want.OwnerReferences
		}
	}
	if have.Spec == old.Spec && maps.Equal(have.Annotations, old.Annotations) && equality.Semantic.DeepEqual(have.OwnerReferences, old.OwnerReferences) {
		return nil
	}
	return r.Patch(ctx, have, apiclient.Locked(old), apiclient.FieldOwner)
}

// remove deletes the network's NADs in all namespaces but one. It deletes only NADs whose owner
// shows that this installation made them: copies made by hand, or restored from a backup, have
// the same name and annotation. If the network still exists (seen), it is read again, and
// nothing is deleted unless it is as seen: by a later version of it the NAD may be wanted.
func (r *reconciler) remove(ctx context.Context, key client.ObjectKey, except string, seen *network) error {
	var ns corev1.Namespace
	if err := r.Get(ctx, client.ObjectKey{Name: r.Namespace}, &ns, client.UnsafeDisableDeepCopy); client.IgnoreNotFound(err) != nil {
		return err
	}
	var list nad.NetworkAttachmentDefinitionList
	if err := r.List(ctx, &list, client.MatchingFields{ownerIndex: r.ownerRef(key)}); err != nil {
		return err
	}
	for i := range list.Items {
		n := &list.Items[i]
		if n.Namespace == except || n.Name != key.Name || !r.made(n, ns.UID) {
			continue
		}
		if err := r.still(ctx, seen); err != nil {
			return err
		}
		if err := r.Delete(ctx, n); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

// still is a conflict if a network is not what it was when it was seen.
func (r *reconciler) still(ctx context.Context, seen *network) error {
	if seen == nil {
		return nil
	}
	now := r.empty()
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(seen), now.Object)
	if err == nil && (now.GetUID() != seen.GetUID() || now.GetGeneration() != seen.GetGeneration()) {
		return apierrors.NewConflict(v1.GroupVersion.WithResource(r.Kind).GroupResource(), seen.GetName(), errors.New("the cache is behind"))
	}
	return client.IgnoreNotFound(err)
}

// made reports whether a NAD was made by an operator in the Namespace with this UID.
func (r *reconciler) made(n *nad.NetworkAttachmentDefinition, namespace types.UID) bool {
	return slices.ContainsFunc(n.OwnerReferences, func(o metav1.OwnerReference) bool {
		return o.Kind == "Namespace" && o.UID == namespace ||
			o.Kind == r.Kind && o.APIVersion == v1.GroupVersion.String() && o.Controller != nil && *o.Controller
	})
}

func orSomebody(owner string) string {
	if owner == "" {
		return "somebody else"
	}
	return owner
}
