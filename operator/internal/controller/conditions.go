package controller

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// messageLimit of a condition, bytes; the API allows 32 KiB, people read less.
const messageLimit = 2048

// patchCondition writes conditions of obj that changed. list is obj's own. Others
// write conditions of the same object, so the patch holds only for the version read.
func patchCondition(ctx context.Context, c client.Client, obj client.Object, list *[]metav1.Condition, conditions ...metav1.Condition) error {
	changed := false
	for _, cond := range conditions {
		if len(cond.Message) > messageLimit {
			cond.Message = cond.Message[:messageLimit]
		}
		changed = meta.SetStatusCondition(list, cond) || changed
	}
	if !changed {
		return nil
	}
	patch := map[string]any{
		"metadata": map[string]any{"resourceVersion": obj.GetResourceVersion()},
		"status":   map[string]any{"conditions": *list},
	}
	return client.IgnoreNotFound(mergePatch(ctx, c, obj, "status", patch))
}

func joinMessage(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}
