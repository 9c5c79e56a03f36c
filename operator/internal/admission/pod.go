// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"errors"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// apply writes the needs into obj, which is pod as it came: fields that this version
// does not know stay. Doing it again changes nothing.
func (n *needs) apply(pod *corev1.Pod, obj map[string]any) error {
	for key, value := range n.labels {
		if was, ok := pod.Spec.NodeSelector[key]; ok && was != value {
			n.warn("nodeSelector %s=%s: a network of the pod is on nodes with %s=%s only", key, was, key, value)
		}
		if err := unstructured.SetNestedField(obj, value, "spec", "nodeSelector", key); err != nil {
			return err
		}
	}
	if len(n.resources) == 0 {
		return nil
	}
	containers, _, err := unstructured.NestedSlice(obj, "spec", "containers")
	if err != nil || len(containers) == 0 || len(containers) != len(pod.Spec.Containers) {
		return errors.Join(errors.New("a pod without containers"), err)
	}
	first, ok := containers[0].(map[string]any)
	if !ok {
		return errors.New("a container that is no object")
	}
	for _, name := range n.sorted() {
		total, missing := n.lacks(pod, name)
		if !missing {
			continue
		}
		for _, list := range []string{"requests", "limits"} {
			if err := unstructured.SetNestedField(first, total.String(), "resources", list, name); err != nil {
				return err
			}
		}
	}
	return errors.Join(unstructured.SetNestedSlice(obj, containers, "spec", "containers"), podInfo(pod, obj))
}

// lacks compares what the networks need of one resource with what the containers ask for
// together, and returns what the first one should ask for, if that is too little.
// Containers that a meta-plugin cannot take a device from, because they end before the
// others start, do not count.
func (n *needs) lacks(pod *corev1.Pod, name string) (resource.Quantity, bool) {
	asked := func(c *corev1.Container) resource.Quantity {
		request, limit := c.Resources.Requests[corev1.ResourceName(name)], c.Resources.Limits[corev1.ResourceName(name)]
		if request.Cmp(limit) > 0 {
			return request
		}
		return limit
	}
	var sum resource.Quantity
	for i := range pod.Spec.Containers {
		sum.Add(asked(&pod.Spec.Containers[i]))
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sum.Add(asked(c))
		}
	}
	want := *resource.NewQuantity(n.resources[name], resource.DecimalSI)
	if want.Cmp(sum) <= 0 {
		return sum, false
	}
	want.Sub(sum)
	want.Add(asked(&pod.Spec.Containers[0]))
	return want, true
}
