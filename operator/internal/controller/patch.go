package controller

import (
	"context"
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// mergePatch sends a merge patch of obj that was put together by hand: finding the
// difference of two large objects costs more than all the rest. The answer is metadata
// only, for the watch brings the object anyway; obj takes its versions from there.
// An empty subresource is the object itself.
func mergePatch(ctx context.Context, c client.Client, obj client.Object, subresource string, patch map[string]any) error {
	kind, err := c.GroupVersionKindFor(obj)
	if err != nil {
		return err
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	var answer metav1.PartialObjectMetadata
	answer.SetGroupVersionKind(kind)
	answer.Namespace, answer.Name = obj.GetNamespace(), obj.GetName()
	raw := client.RawPatch(types.MergePatchType, data)
	if subresource == "" {
		err = c.Patch(ctx, &answer, raw, FieldOwner)
	} else {
		err = c.SubResource(subresource).Patch(ctx, &answer, raw, FieldOwner)
	}
	if err != nil {
		return err
	}
	obj.SetGeneration(answer.Generation)
	obj.SetResourceVersion(answer.ResourceVersion)
	return nil
}
