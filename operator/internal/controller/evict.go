package controller

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// cordon keeps new pods off the node. A node that an admin cordoned is left as it is,
// and nothing notes that it was us: so it stays cordoned afterwards.
func cordon(ctx context.Context, c client.Client, node *corev1.Node) error {
	if node.Spec.Unschedulable {
		return nil
	}
	old := node.DeepCopy()
	if node.Annotations == nil {
		node.Annotations = map[string]string{}
	}
	node.Spec.Unschedulable, node.Annotations[v1.AnnotationCordoned] = true, "true"
	return c.Patch(ctx, node, client.MergeFromWithOptions(old, client.MergeFromWithOptimisticLock{}), FieldOwner)
}

// uncordon undoes what cordon did, and nothing else.
func uncordon(ctx context.Context, c client.Client, node *corev1.Node) error {
	if node.Annotations[v1.AnnotationCordoned] == "" {
		return nil
	}
	old := node.DeepCopy()
	node.Spec.Unschedulable = false
	delete(node.Annotations, v1.AnnotationCordoned)
	return c.Patch(ctx, node, client.MergeFromWithOptions(old, client.MergeFromWithOptimisticLock{}), FieldOwner)
}

// evictable lists the pods that have to leave a node: those that hold a resource of
// ours, or all. Pods of DaemonSets and static pods would come back at once, finished
// ones hold nothing.
func evictable(ctx context.Context, c client.Reader, node, resourcePrefix string, all bool) ([]corev1.Pod, error) {
	var list corev1.PodList
	if err := c.List(ctx, &list, client.MatchingFields{"spec.nodeName": node}); err != nil {
		return nil, fmt.Errorf("list the pods of node %s: %w", node, err)
	}
	var out []corev1.Pod
	for _, p := range list.Items {
		owner := metav1.GetControllerOf(&p)
		switch {
		case p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed:
		case p.Annotations[corev1.MirrorPodAnnotationKey] != "":
		case owner != nil && owner.Kind == "DaemonSet":
		case all || holds(&p, resourcePrefix+"/"):
			out = append(out, p)
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

// evictPods asks each pod that is not leaving yet to leave; blocked says which may not,
// in the words of the API server.
func evictPods(ctx context.Context, c client.Client, pods []corev1.Pod) (blocked string, err error) {
	for i := range pods {
		p := &pods[i]
		if !p.DeletionTimestamp.IsZero() {
			continue
		}
		eviction := &policyv1.Eviction{
			ObjectMeta:    metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name},
			DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}},
		}
		err := c.SubResource("eviction").Create(ctx, p, eviction)
		switch {
		case err == nil, apierrors.IsNotFound(err), apierrors.IsConflict(err): // gone, or another of that name
		case apierrors.IsTooManyRequests(err):
			blocked = joinMessage(blocked, fmt.Sprintf("pod %s/%s: %v", p.Namespace, p.Name, err))
		default:
			return "", fmt.Errorf("evict pod %s/%s: %w", p.Namespace, p.Name, err)
		}
	}
	return blocked, nil
}
