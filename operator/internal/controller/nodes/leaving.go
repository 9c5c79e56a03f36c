// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

const (
	// leavingAgain is the time between two looks at a node that leaves mode dra: what it waits
	// for is in no cache, so no event says that it came.
	leavingAgain = time.Second
	// restAgain is the same once the device plugin offers the node's VFs, for claims of pods
	// that may run for weeks.
	restAgain = 10 * time.Second
	// allocateTime is how long the scheduler may take to write an allocation that it decided
	// on before it heard that the devices are not offered any more.
	allocateTime = 5 * time.Second
	// claimsNamed in a condition; of more, their number.
	claimsNamed = 5
	// claimsPage is how many claims are listed at a time.
	claimsPage = 500
)

// leaving takes nodes from the DRA driver back to the device plugin without harm to pods
// that have claims: kubelet cannot end those without the driver. The driver first offers
// nothing any more; what is allocated by then gets prepared; then the device plugin offers
// what no claim has; and with the last claim the driver goes.
type leaving struct {
	live client.Reader // not the cache, which is behind
	now  func() time.Time

	mu sync.Mutex
	// withdrawn is since when a node was seen to offer nothing.
	withdrawn map[string]time.Time
	// claims are by node, as they were listed at a time: one list serves all nodes.
	claims map[string][]nodeClaim
	listed time.Time
}

// nodeClaim is an allocated claim that has devices of a node.
type nodeClaim struct {
	name types.NamespacedName
	pods []resourcev1.ResourceClaimConsumerReference
}

func (c nodeClaim) String() string {
	if len(c.pods) == 0 {
		return "claim " + c.name.String() + ", of no pod yet"
	}
	names := make([]string, len(c.pods))
	for i, p := range c.pods {
		names[i] = c.name.Namespace + "/" + p.Name
	}
	return "pod " + strings.Join(names, ", ") + " (claim " + c.name.Name + ")"
}

// step is what becomes of a node that is in one of the driver's modes and is to leave.
// wait says what it waits for. What cannot be found out changes nothing.
func (l *leaving) step(ctx context.Context, node, mode string) (modeChange, string) {
	switch mode {
	case v1.ResourceModeLeaving:
	case v1.ResourceModeRest:
		claims, err := l.of(ctx, node, l.now().Add(-restAgain/2))
		switch {
		case err != nil:
			return modeKept, err.Error()
		case len(claims) == 0:
			return modeRemoved, ""
		}
		return modeKept, "the DRA driver stays, beside the device plugin, until these are gone: " + list(claims)
	default:
		l.forget(node)
		return modeToLeaving, "the DRA driver is told to offer nothing any more"
	}
	since, wait := l.awaitWithdrawn(ctx, node)
	if wait != "" {
		return modeKept, wait
	}
	notBefore := l.now().Add(-leavingAgain / 2) // also of what ended meanwhile
	if allocated := since.Add(allocateTime); allocated.After(notBefore) {
		notBefore = allocated
	}
	claims, err := l.of(ctx, node, notBefore)
	if err != nil {
		return modeKept, err.Error()
	}
	if len(claims) == 0 {
		return modeRemoved, ""
	}
	early, err := l.notRunning(ctx, node, claims)
	if err != nil {
		return modeKept, err.Error()
	}
	if len(early) > 0 {
		return modeKept, "the device plugin stays away until these run or are gone: " + list(early)
	}
	return modeToRest, "the DRA driver stays, beside the device plugin, until these are gone: " + list(claims)
}

func list(claims []nodeClaim) string {
	says := make([]string, len(claims))
	for i, c := range claims {
		says[i] = c.String()
	}
	return apiclient.Some(says, claimsNamed, "pods")
}

func (l *leaving) forget(node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.withdrawn, node)
}

// awaitWithdrawn says since when the driver was seen to offer nothing of a node, once that
// is so long ago that all that was allocated before can be seen.
func (l *leaving) awaitWithdrawn(ctx context.Context, node string) (since time.Time, wait string) {
	var offered resourcev1.ResourceSliceList
	if err := l.live.List(ctx, &offered, client.MatchingFields{"spec.nodeName": node}); err != nil {
		return since, fmt.Sprintf("list the ResourceSlices of the node: %v", err)
	}
	n := 0
	for _, s := range offered.Items {
		if s.Spec.Driver == deploy.DRADriver {
			n += len(s.Spec.Devices)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n > 0 {
		delete(l.withdrawn, node)
		return since, fmt.Sprintf("the DRA driver on the node still offers %d devices: does it run?", n)
	}
	since, known := l.withdrawn[node]
	if !known {
		if l.withdrawn == nil {
			l.withdrawn = map[string]time.Time{}
		}
		since = l.now()
		l.withdrawn[node] = since
	}
	if left := allocateTime - l.now().Sub(since); left > 0 {
		return since, "the scheduler may still be writing what it had allocated"
	}
	return since, ""
}

// of lists the claims that have devices of a node, as they are at some time from notBefore
// on.
func (l *leaving) of(ctx context.Context, node string, notBefore time.Time) ([]nodeClaim, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.claims == nil || l.listed.Before(notBefore) {
		begun := l.now()
		claims, err := l.list(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the ResourceClaims: %w", err)
		}
		l.claims, l.listed = claims, begun
	}
	return l.claims[node], nil
}

func (l *leaving) list(ctx context.Context) (map[string][]nodeClaim, error) {
	out := map[string][]nodeClaim{}
	for next := ""; ; {
		var page resourcev1.ResourceClaimList // a new one: JSON leaves what it does not mention
		if err := l.live.List(ctx, &page, client.Limit(claimsPage), client.Continue(next)); err != nil {
			return nil, err
		}
		for i := range page.Items {
			c := &page.Items[i]
			for _, node := range nodesOf(c) {
				out[node] = append(out[node], nodeClaim{client.ObjectKeyFromObject(c), c.Status.ReservedFor})
			}
		}
		if next = page.Continue; next == "" {
			return out, nil
		}
	}
}

// nodesOf names the nodes whose VFs a claim has. One that only looks at them needs the
// driver as well: it was prepared.
func nodesOf(c *resourcev1.ResourceClaim) (nodes []string) {
	if c.Status.Allocation == nil {
		return nil
	}
	for _, d := range c.Status.Allocation.Devices.Results {
		if d.Driver == deploy.DRADriver && !slices.Contains(nodes, d.Pool) {
			nodes = append(nodes, d.Pool)
		}
	}
	return nodes
}

// notRunning are the claims that the driver may still have to prepare: no pod runs that has
// them.
func (l *leaving) notRunning(ctx context.Context, node string, claims []nodeClaim) (out []nodeClaim, err error) {
	var pods corev1.PodList
	if err := l.live.List(ctx, &pods, client.MatchingFields{"spec.nodeName": node}); err != nil {
		return nil, fmt.Errorf("list the pods of node %s: %w", node, err)
	}
	begun := map[types.UID]bool{}
	for i := range pods.Items {
		begun[pods.Items[i].UID] = pods.Items[i].Status.Phase != corev1.PodPending
	}
	for _, c := range claims {
		runs := func(p resourcev1.ResourceClaimConsumerReference) bool { return begun[p.UID] }
		if !slices.ContainsFunc(c.pods, runs) {
			out = append(out, c)
		}
	}
	return out, nil
}
