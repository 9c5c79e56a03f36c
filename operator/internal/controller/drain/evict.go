// SPDX-License-Identifier: Apache-2.0

package drain

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
)

const (
	// evictTimeout of one eviction: a webhook that does not answer must not hold up the
	// others, nor the other nodes.
	evictTimeout = 5 * time.Second
	// evictParallel evictions of one node at a time.
	evictParallel = 8
	// podsNamed in a condition; of more, their number.
	podsNamed = 5
)

// cordon keeps new pods off the node. A node that an admin cordoned is left as it is, and not
// marked as cordoned by the operator: so it stays cordoned afterwards.
func cordon(ctx context.Context, c client.Client, node *corev1.Node) error {
	if node.Spec.Unschedulable {
		return nil
	}
	old := node.DeepCopy()
	if node.Annotations == nil {
		node.Annotations = map[string]string{}
	}
	node.Spec.Unschedulable, node.Annotations[v1.AnnotationCordoned] = true, "true"
	return c.Patch(ctx, node, apiclient.Locked(old), apiclient.FieldOwner)
}

// uncordon undoes what cordon did, and nothing else.
func uncordon(ctx context.Context, c client.Client, node *corev1.Node) error {
	if node.Annotations[v1.AnnotationCordoned] == "" {
		return nil
	}
	old := node.DeepCopy()
	node.Spec.Unschedulable = false
	delete(node.Annotations, v1.AnnotationCordoned)
	return c.Patch(ctx, node, apiclient.Locked(old), apiclient.FieldOwner)
}

// occupants of a node that a drain is about.
type occupants struct {
	leave   []corev1.Pod // are to be evicted
	stay    []string     // hold VFs and are not evicted, with the reason, for people
	unknown []string     // cannot be judged, with the reason
}

// occupants sorts the pods of a node: those that hold a VF, or all, have to leave. A VF is
// held by a resource with the operator's prefix, by a claim, or because the node's daemon says
// so: it may have been handed out by another prefix. Pods of DaemonSets and static pods would
// come back at once; finished ones hold nothing.
func (r *drainer) occupants(ctx context.Context, state *v1.SriovNetworkNodeState, all bool) (occupants, error) {
	node, disturbed := state.Name, state.Annotations[v1.AnnotationDrainVFs]
	named := strings.Split(state.Annotations[v1.AnnotationDrainPods], ",")
	var list corev1.PodList
	var out occupants
	if err := r.Live.List(ctx, &list, client.MatchingFields{"spec.nodeName": node}); err != nil {
		return out, fmt.Errorf("list the pods of node %s: %w", node, err)
	}
	for _, p := range list.Items {
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		isNamed := slices.Contains(named, p.Namespace+"/"+p.Name) || p.UID != "" && slices.Contains(named, kubeletUID(&p))
		holder := isNamed || holds(&p, r.ResourcePrefix+"/")
		if !holder {
			claimed, err := r.holdsClaim(ctx, &p, node, disturbed)
			if err != nil && !all {
				out.unknown = append(out.unknown, fmt.Sprintf("pod %s/%s: %v", p.Namespace, p.Name, err))
				continue
			}
			holder = claimed
		}
		owner := metav1.GetControllerOf(&p)
		static := p.Annotations[corev1.MirrorPodAnnotationKey] != ""
		switch {
		case static && holder:
			out.stay = append(out.stay, fmt.Sprintf("static pod %s/%s holds VFs: a static pod cannot be evicted", p.Namespace, p.Name))
		case owner != nil && owner.Kind == "DaemonSet" && holder:
			out.stay = append(out.stay, fmt.Sprintf("pod %s/%s holds VFs: DaemonSet %s would put it back at once", p.Namespace, p.Name, owner.Name))
		case static, owner != nil && owner.Kind == "DaemonSet":
		case all || holder:
			out.leave = append(out.leave, p)
		}
	}
	return out, nil
}

// holds reports whether any container of the pod asks for a resource with the prefix.
func holds(p *corev1.Pod, prefix string) bool {
	for _, containers := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range containers {
			for _, list := range []corev1.ResourceList{c.Resources.Requests, c.Resources.Limits} {
				for name, n := range list {
					if strings.HasPrefix(string(name), prefix) && !n.IsZero() {
						return true
					}
				}
			}
		}
	}
	return false
}

// evictPods asks each pod to leave that is not leaving yet, whatever is answered for the
// others. It says of every pod what it waits for, in the words of the API server, and
// whether one of them may not leave.
func (r *drainer) evictPods(ctx context.Context, pods []corev1.Pod) (says []string, blocked bool) {
	says = make([]string, len(pods))
	refused := make([]bool, len(pods))
	var calls errgroup.Group
	calls.SetLimit(evictParallel)
	for i := range pods {
		calls.Go(func() error {
			says[i], refused[i] = r.evictPod(ctx, &pods[i])
			return nil
		})
	}
	_ = calls.Wait()
	return says, slices.Contains(refused, true)
}

func (r *drainer) evictPod(ctx context.Context, p *corev1.Pod) (says string, refused bool) {
	name := "pod " + p.Namespace + "/" + p.Name
	if !p.DeletionTimestamp.IsZero() {
		if len(p.Finalizers) > 0 {
			return fmt.Sprintf("%s is ending, held by the finalizers %s", name, strings.Join(p.Finalizers, ", ")), false
		}
		return name + " is ending", false
	}
	body, err := json.Marshal(&policyv1.Eviction{
		TypeMeta:      metav1.TypeMeta{APIVersion: "policy/v1", Kind: "Eviction"},
		ObjectMeta:    metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}},
	})
	if err != nil {
		return name + ": " + err.Error(), true
	}
	ctx, cancel := context.WithTimeoutCause(ctx, evictTimeout, fmt.Errorf("no answer within %s", evictTimeout))
	defer cancel()
	// Without client-go's own retries: an answer "too many requests" with a time would be
	// repeated ten times before anybody learns of it.
	err = r.REST.Post().AbsPath("/api/v1/namespaces", p.Namespace, "pods", p.Name, "eviction").
		SetHeader("Content-Type", "application/json").MaxRetries(0).Body(body).Do(ctx).Error()
	switch {
	case err == nil:
		return name + " is ending", false
	case apierrors.IsNotFound(err), apierrors.IsConflict(err): // gone, or another of that name, as the next look will show
		return name + ": " + err.Error(), false
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return name + ": " + err.Error(), true
}
