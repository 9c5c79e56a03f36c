// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
)

// systemNamespace is where a default network without a namespace is looked for, as the
// meta-plugin does unless it is configured otherwise.
const systemNamespace = "kube-system"

// injector adds to pods the resources that the networks they ask for come with.
type injector struct {
	cached  client.Reader
	live    client.Reader // for a network that was made a moment ago
	decoder admission.Decoder
}

// needs of a pod because of its networks.
type needs struct {
	resources map[string]int64
	labels    map[string]string // of the node
	warnings  []string
}

// Handle implements admission.Handler.
func (h *injector) Handle(ctx context.Context, req admission.Request) admission.Response {
	var pod corev1.Pod
	if err := h.decoder.Decode(req, &pod); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	n := needs{resources: map[string]int64{}, labels: map[string]string{}}
	missing, err := h.collect(ctx, &pod, req.Namespace, &n)
	switch {
	case err != nil:
		return admission.Errored(http.StatusInternalServerError, err)
	case missing != "":
		// Such a pod could never start: its resources are settled now.
		return admission.Denied(missing)
	}
	var obj map[string]any
	if err := json.Unmarshal(req.Object.Raw, &obj); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if err := n.apply(&pod, obj); err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	return patched(req, obj).WithWarnings(n.warnings...)
}

// collect adds up what the pod's networks need; missing names one that is not there.
func (h *injector) collect(ctx context.Context, pod *corev1.Pod, namespace string, n *needs) (missing string, err error) {
	for _, key := range []string{v1.AnnotationDefaultNetwork, v1.AnnotationNetworks} {
		home := namespace
		if key == v1.AnnotationDefaultNetwork {
			home = systemNamespace
		}
		list, err := selections(pod.Annotations[key], home)
		if err != nil {
			n.warn("annotation %s: %v; no resources are added for it", key, err)
			continue
		}
		if key == v1.AnnotationDefaultNetwork && len(list) > 1 {
			n.warn("annotation %s: %d networks, where there is one; no resources are added for it", key, len(list))
			continue
		}
		for _, s := range list {
			found, err := h.network(ctx, s)
			if err == nil && found == nil && key == v1.AnnotationDefaultNetwork {
				found, err = h.network(ctx, selection{namespace, s.name})
			}
			switch {
			case err != nil:
				return "", err
			case found == nil && key == v1.AnnotationDefaultNetwork:
				n.warn("annotation %s: no NetworkAttachmentDefinition %s; no resources are added for it", key, s)
			case found == nil:
				return fmt.Sprintf("annotation %s: no NetworkAttachmentDefinition %s", key, s), nil
			default:
				n.add(s, found.Annotations)
			}
		}
	}
	return "", nil
}

// network reads a NetworkAttachmentDefinition; nil if there is none.
func (h *injector) network(ctx context.Context, s selection) (*nad.NetworkAttachmentDefinition, error) {
	var found nad.NetworkAttachmentDefinition
	key := client.ObjectKey{Namespace: s.namespace, Name: s.name}
	err := h.cached.Get(ctx, key, &found)
	if err != nil { // not there yet, or the cache is not
		err = h.live.Get(ctx, key, &found)
	}
	if err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return &found, nil
}

// add counts what one network's annotations ask for.
func (n *needs) add(s selection, annotations map[string]string) {
	if resource, ok := annotations[v1.AnnotationResourceName]; ok {
		if extended(resource) {
			n.resources[resource]++
		} else {
			n.warn("network %s: annotation %s: %.64q is no extended resource, such as example.com/nics", s, v1.AnnotationResourceName, resource)
		}
	}
	if label := strings.TrimSpace(annotations[v1.AnnotationNodeSelector]); label != "" {
		key, value, _ := strings.Cut(label, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if len(validation.IsQualifiedName(key)) > 0 || len(validation.IsValidLabelValue(value)) > 0 {
			n.warn("network %s: annotation %s: %.64q is no label, key=value", s, v1.AnnotationNodeSelector, label)
			return
		}
		if was, ok := n.labels[key]; ok && was != value {
			n.warn("network %s wants nodes with %s=%s, and another network %s=%s", s, key, value, key, was)
		}
		n.labels[key] = value
	}
}

func (n *needs) warn(format string, args ...any) {
	if w := fmt.Sprintf(format, args...); !slices.Contains(n.warnings, w) {
		n.warnings = append(n.warnings, w)
	}
}

// extended reports whether a resource is one of a device plugin, as opposed to cpu or memory,
// which a network may not have pods request.
func extended(name string) bool {
	domain, _, ok := strings.Cut(name, "/")
	return ok && len(validation.IsQualifiedName(name)) == 0 && domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io")
}

// sorted resources, so that the same pod gets the same answer.
func (n *needs) sorted() []string { return slices.Sorted(maps.Keys(n.resources)) }
