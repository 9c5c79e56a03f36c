// SPDX-License-Identifier: Apache-2.0

package drain

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// maxAsked bounds a question, bytes, and maxPods the pods in it: the VFs of a node that has a
// thousand, each with a pod. The answer, which is longer, still fits into an object.
const (
	maxAsked = 64 << 10
	maxPods  = 4096
)

// answerPods tells a daemon whether pods that it asks about are on its node and have not ended.
// The answer holds for the question that was read; without one there is none.
func (r *drainer) answerPods(ctx context.Context, state *v1.SriovNetworkNodeState) error {
	asked, given := state.Annotations[v1.AnnotationPodsAsked], state.Annotations[v1.AnnotationPodsAnswer]
	if asked == "" {
		if given == "" {
			return nil
		}
		return r.writeAnswer(ctx, state, nil)
	}
	uids := strings.Split(asked, ",")
	if len(asked) > maxAsked || len(uids) > maxPods || answers(given, uids) {
		return nil
	}
	var pods corev1.PodList
	if err := r.Live.List(ctx, &pods, client.MatchingFields{"spec.nodeName": state.Name}); err != nil {
		return fmt.Errorf("list the pods of node %s: %w", state.Name, err)
	}
	here := map[string]bool{}
	for i := range pods.Items {
		p := &pods.Items[i]
		if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			here[kubeletUID(p)] = true
		}
	}
	for i, uid := range uids {
		if uids[i] += "=" + v1.PodGone; here[uid] || isStatic(uid) {
			uids[i] = uid + "=" + v1.PodHere
		}
	}
	return r.writeAnswer(ctx, state, strings.Join(uids, ","))
}

// answers reports whether what was answered is about these pods.
func answers(given string, uids []string) bool {
	said := map[string]bool{}
	for _, one := range strings.Split(given, ",") {
		uid, _, _ := strings.Cut(one, "=")
		said[uid] = true
	}
	for _, uid := range uids {
		if !said[uid] {
			return false
		}
	}
	return true
}

func (r *drainer) writeAnswer(ctx context.Context, state *v1.SriovNetworkNodeState, answer any) error {
	return r.MergePatch(ctx, state, "", map[string]any{"metadata": map[string]any{"annotations": map[string]any{v1.AnnotationPodsAnswer: answer}}})
}

// staticHash is an annotation of a static pod's mirror: the UID that the kubelet knows the
// pod by, for the mirror's own is the API server's (pkg/kubelet/types, ConfigHashAnnotationKey).
const staticHash = "kubernetes.io/config.hash"

// kubeletUID is what the kubelet calls a pod.
func kubeletUID(p *corev1.Pod) string {
	if hash := p.Annotations[staticHash]; hash != "" && p.Annotations[corev1.MirrorPodAnnotationKey] != "" {
		return hash
	}
	return string(p.UID)
}

// isStatic reports whether a UID is one that the kubelet has made up. Such a pod may be on
// the node without a mirror at the API server. The mark of a question passes for one, and so
// stands in the answer.
func isStatic(uid string) bool { return !strings.Contains(uid, "-") }
