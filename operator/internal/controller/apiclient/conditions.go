// SPDX-License-Identifier: Apache-2.0

package apiclient

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// messageLimit of a condition, bytes; the API allows 32 KiB, people read less.
const messageLimit = 2048

// PatchConditions writes conditions of obj that changed. list is obj's own. Others
// write conditions of the same object, so the patch holds only for the version read.
func (c *Client) PatchConditions(ctx context.Context, obj client.Object, list *[]metav1.Condition, conditions ...metav1.Condition) error {
	return c.PatchStatus(ctx, obj, list, map[string]any{}, false, conditions...)
}

// PatchStatus writes conditions that changed, and with them the other fields of the status;
// those alone if they are said to have changed.
func (c *Client) PatchStatus(ctx context.Context, obj client.Object, list *[]metav1.Condition, status map[string]any, changed bool, conditions ...metav1.Condition) error {
	for _, cond := range conditions {
		cond.Message = strings.ReplaceAll(cond.Message, "\n", "; ") // of joined errors
		if len(cond.Message) > messageLimit {
			cond.Message = strings.ToValidUTF8(cond.Message[:messageLimit], "")
		}
		changed = meta.SetStatusCondition(list, cond) || changed
	}
	if !changed {
		return nil
	}
	status["conditions"] = *list
	return client.IgnoreNotFound(c.MergePatch(ctx, obj, "status", map[string]any{"status": status}))
}

// Some joins the first n of what is said for a condition's message, and counts the rest:
// "and 7 more pods".
func Some(says []string, n int, what string) string {
	if more := len(says) - n; more > 0 {
		return strings.Join(says[:n], "; ") + fmt.Sprintf("; and %d more %s", more, what)
	}
	return strings.Join(says, "; ")
}
