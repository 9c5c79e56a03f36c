// SPDX-License-Identifier: Apache-2.0

package drain

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

// holdsClaim reports whether a pod holds, through a resource claim, a VF of the node. If
// disturbed names VFs, only they count. A claim that cannot be read is an error: its pod
// may hold one. Access for administration holds nothing.
func (r *drainer) holdsClaim(ctx context.Context, p *corev1.Pod, node, disturbed string) (bool, error) {
	for _, name := range claimsOf(p) {
		var claim resourcev1.ResourceClaim
		err := r.Live.Get(ctx, client.ObjectKey{Namespace: p.Namespace, Name: name}, &claim)
		if client.IgnoreNotFound(err) != nil {
			return false, fmt.Errorf("read ResourceClaim %s: %w", name, err)
		}
		if err != nil || claim.Status.Allocation == nil {
			continue
		}
		for _, d := range claim.Status.Allocation.Devices.Results {
			if d.Driver != deploy.DRADriver || d.Pool != node || d.AdminAccess != nil && *d.AdminAccess {
				continue
			}
			if disturbed == "" || slices.ContainsFunc(strings.Split(disturbed, ","), func(vf string) bool { return deviceName(vf) == d.Device }) {
				return true, nil
			}
		}
	}
	return false, nil
}

// claimsOf names the claims of a pod: those it lists, those that were made for it, and
// the one behind its extended resources.
func claimsOf(p *corev1.Pod) []string {
	var names []string
	add := func(name *string) {
		if name != nil && *name != "" && !slices.Contains(names, *name) {
			names = append(names, *name)
		}
	}
	for i := range p.Spec.ResourceClaims {
		add(p.Spec.ResourceClaims[i].ResourceClaimName)
	}
	for i := range p.Status.ResourceClaimStatuses {
		add(p.Status.ResourceClaimStatuses[i].ResourceClaimName)
	}
	if s := p.Status.ExtendedResourceClaimStatus; s != nil {
		add(&s.ResourceClaimName)
	}
	return names
}

// deviceName of a PCI address: a DNS label.
func deviceName(address string) string {
	return strings.NewReplacer(":", "-", ".", "-").Replace(strings.ToLower(strings.TrimSpace(address)))
}
