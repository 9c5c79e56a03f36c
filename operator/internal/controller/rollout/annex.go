// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sriovkit/sriovkit/operator/internal/controller/apiclient"
)

// annex makes this operator the owner of what others have added to an object that it applied:
// an apply takes away only what its own manager has had. An upstream operator that ran in
// between leaves volumes, arguments and init containers in DaemonSets of the same name, and
// webhooks that nobody answers. It reports whether there was anything; then an apply is due.
func (r *reconciler) annex(ctx context.Context, have client.Object) (bool, error) {
	old := have.DeepCopyObject().(client.Object)
	moved, err := annexed(have)
	if err != nil || !moved {
		return false, err
	}
	// If no apply follows now, the next pass sees by this that one is due.
	annotations := have.GetAnnotations()
	delete(annotations, annotationSum)
	have.SetAnnotations(annotations)
	return true, r.Patch(ctx, have, apiclient.Locked(old), apiclient.FieldOwner)
}

// ours is where in managed fields nobody else has anything to say: all of it, or only
// elements of a list that are not in what the operator applies.
func ours(obj client.Object) (path []string, all bool) {
	switch obj.(type) {
	case *appsv1.DaemonSet:
		return []string{"f:spec", "f:template", "f:spec"}, true
	case *admissionv1.MutatingWebhookConfiguration, *admissionv1.ValidatingWebhookConfiguration:
		return []string{"f:webhooks"}, false // platforms add selectors to webhooks that are ours
	}
	return nil, false
}

// annexed changes the managed fields of an object, and reports whether it did.
func annexed(obj client.Object) (bool, error) {
	path, all := ours(obj)
	managers := obj.GetManagedFields()
	fields := make([]map[string]any, len(managers))
	own := -1
	for i, m := range managers {
		if m.FieldsV1 == nil || m.Subresource != "" {
			continue
		}
		if err := json.Unmarshal(m.FieldsV1.GetRawBytes(), &fields[i]); err != nil {
			return false, fmt.Errorf("managed fields of %s: %w", m.Manager, err)
		}
		if m.Manager == string(apiclient.FieldOwner) && m.Operation == metav1.ManagedFieldsOperationApply {
			own = i
		}
	}
	if path == nil || own < 0 {
		return false, nil
	}
	mine, found, err := unstructured.NestedMap(fields[own], path...)
	if err != nil || !found {
		return false, err
	}
	moved := false
	var out []metav1.ManagedFieldsEntry
	for i, m := range managers {
		theirs, found, err := unstructured.NestedMap(fields[i], path...)
		if err != nil {
			return false, err
		}
		if i == own || !found {
			out = append(out, m)
			continue
		}
		for key, value := range theirs {
			if _, known := mine[key]; key == "." || known && !all {
				continue
			}
			union(mine, key, value)
			delete(theirs, key)
			moved = true
		}
		unstructured.RemoveNestedField(fields[i], path...)
		if len(theirs) > 0 {
			if err := unstructured.SetNestedMap(fields[i], theirs, path...); err != nil {
				return false, err
			}
		}
		if m, err = withFields(m, fields[i]); err != nil {
			return false, err
		}
		out = append(out, m)
	}
	if !moved {
		return false, nil
	}
	if err := unstructured.SetNestedMap(fields[own], mine, path...); err != nil {
		return false, err
	}
	if out[own], err = withFields(managers[own], fields[own]); err != nil {
		return false, err
	}
	obj.SetManagedFields(out)
	return true, nil
}

func withFields(m metav1.ManagedFieldsEntry, fields map[string]any) (metav1.ManagedFieldsEntry, error) {
	data, err := json.Marshal(fields)
	m.FieldsV1, m.Time = metav1.NewFieldsV1(string(data)), &metav1.Time{Time: time.Now()}
	return m, err
}

// union adds a path, with all below it, to those that a map of managed fields has.
func union(into map[string]any, key string, value any) {
	below, ok := into[key].(map[string]any)
	more, _ := value.(map[string]any)
	if !ok {
		into[key] = value
		return
	}
	for k, v := range more {
		union(below, k, v)
	}
}
