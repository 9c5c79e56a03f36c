// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// What applications in pods rely on to learn about their networks: a volume with the
// pod's labels and annotations, and its huge pages.
const (
	podInfoVolume   = "podnetinfo"
	podInfoPath     = "/etc/podnetinfo"
	envContainer    = "CONTAINER_NAME"
	hugePagesPrefix = "hugepages-"
)

// podInfo mounts that volume into every container, unless the pod has one of the name.
func podInfo(pod *corev1.Pod, obj map[string]any) error {
	if slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == podInfoVolume }) {
		return nil
	}
	var items []any
	if len(pod.Labels) > 0 {
		items = append(items, fieldItem("labels"))
	}
	if len(pod.Annotations) > 0 {
		items = append(items, fieldItem("annotations"))
	}
	containers, _, err := unstructured.NestedSlice(obj, "spec", "containers")
	if err != nil {
		return err
	}
	for i := range pod.Spec.Containers {
		c, ok := containers[i].(map[string]any)
		if !ok {
			return fmt.Errorf("container %d is no object", i+1)
		}
		pages := hugePages(&pod.Spec.Containers[i])
		items = append(items, pages...)
		named := slices.ContainsFunc(pod.Spec.Containers[i].Env, func(e corev1.EnvVar) bool { return e.Name == envContainer })
		if len(pages) > 0 && !named {
			if err := appendTo(c, map[string]any{"name": envContainer, "value": pod.Spec.Containers[i].Name}, "env"); err != nil {
				return err
			}
		}
		if slices.ContainsFunc(pod.Spec.Containers[i].VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == podInfoPath }) {
			continue
		}
		if err := appendTo(c, map[string]any{"name": podInfoVolume, "mountPath": podInfoPath, "readOnly": true}, "volumeMounts"); err != nil {
			return err
		}
	}
	if err := unstructured.SetNestedSlice(obj, containers, "spec", "containers"); err != nil {
		return err
	}
	return appendTo(obj, map[string]any{"name": podInfoVolume, "downwardAPI": map[string]any{"items": items}}, "spec", "volumes")
}

func fieldItem(name string) map[string]any {
	return map[string]any{"path": name, "fieldRef": map[string]any{"fieldPath": "metadata." + name}}
}

// hugePages lists files with what a container asks for in pages of each size, MiB.
func hugePages(c *corev1.Container) []any {
	var out []any
	for _, l := range []struct {
		what, word string
		list       corev1.ResourceList
	}{{"requests", "request", c.Resources.Requests}, {"limits", "limit", c.Resources.Limits}} {
		for _, name := range slices.Sorted(maps.Keys(l.list)) {
			size, ok := strings.CutPrefix(string(name), hugePagesPrefix)
			if quantity := l.list[name]; !ok || quantity.IsZero() {
				continue
			}
			out = append(out, map[string]any{
				"path":             fmt.Sprintf("hugepages_%s_%s_%s", strings.ReplaceAll(size, "i", ""), l.word, c.Name),
				"resourceFieldRef": map[string]any{"containerName": c.Name, "resource": l.what + "." + string(name), "divisor": "1Mi"},
			})
		}
	}
	return out
}

// appendTo adds an element to a list at a path, which may not be there yet.
func appendTo(obj, element map[string]any, path ...string) error {
	list, _, err := unstructured.NestedSlice(obj, path...)
	if err != nil {
		return err
	}
	return unstructured.SetNestedSlice(obj, append(list, element), path...)
}
