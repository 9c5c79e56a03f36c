// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
)

// network warns of a network that no VF can join yet, or that waits for its namespace.
func (v *validator) network(ctx context.Context, source nad.Source, w *warnings) error {
	var policies v1.SriovNetworkNodePolicyList
	if err := v.List(ctx, &policies, client.InNamespace(v.namespace), client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	if !slices.ContainsFunc(policies.Items, func(p v1.SriovNetworkNodePolicy) bool { return p.Spec.ResourceName == source.Resource }) {
		w.add("resourceName %s: no SriovNetworkNodePolicy in %s offers it yet", source.Resource, v.namespace)
	}
	var own, ns corev1.Namespace
	if source.GetNamespace() != v.namespace && v.Get(ctx, client.ObjectKey{Name: source.GetNamespace()}, &own, client.UnsafeDisableDeepCopy) == nil {
		for _, err := range []error{source.Allowed(own.Annotations), source.PluginsAllowed(own.Annotations)} {
			if err != nil {
				w.add("%v", err)
			}
		}
	}
	err := v.Get(ctx, client.ObjectKey{Name: source.Target()}, &ns, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) && source.Target() != source.GetNamespace() {
		w.add("networkNamespace %s is not there yet: the network waits for it", source.Target())
		return nil
	}
	return client.IgnoreNotFound(err)
}
