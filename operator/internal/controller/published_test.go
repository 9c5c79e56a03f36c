// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// Manifests of the kinds that people publish, written after their documentation: those that
// upstream serves are accepted, with every field known, and those that never worked are
// refused by the schemas alone, each with the field in the answer.
func TestPublishedManifests(t *testing.T) {
	c := newCluster(t)
	files, err := filepath.Glob("testdata/published/*.yaml")
	require.NoError(t, err)
	accepted, refused := 0, 0
	for _, f := range files {
		content, err := os.ReadFile(f)
		require.NoError(t, err)
		for doc := range bytes.SplitSeq(content, []byte("\n---\n")) {
			obj := &unstructured.Unstructured{}
			require.NoError(t, yaml.Unmarshal(doc, &obj.Object))
			if obj.Object == nil {
				continue
			}
			name := obj.GetKind() + " " + obj.GetName()
			says := obj.GetAnnotations()["refused"]
			if obj.GetKind() == "SriovOperatorConfig" && obj.GetName() == "default" { // there is one already
				err = c.tryConfig(t, obj)
			} else {
				err = c.Create(ctx, obj, client.DryRunAll, client.FieldValidation("Strict"))
			}
			if says == "" {
				require.NoError(t, err, "%s: %s", f, name)
				accepted++
				continue
			}
			require.ErrorContains(t, err, says, "%s: %s", f, name)
			refused++
		}
	}
	t.Logf("%d accepted, %d refused", accepted, refused)
	require.GreaterOrEqual(t, accepted, 100)
}

// tryConfig asks whether the configuration may have the spec of another.
func (c *cluster) tryConfig(t *testing.T, like *unstructured.Unstructured) (answer error) {
	t.Helper()
	c.eventually(t, func(t *assert.CollectT) {
		have := &unstructured.Unstructured{}
		have.SetGroupVersionKind(like.GroupVersionKind())
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(like), have))
		have.Object["spec"] = like.Object["spec"]
		answer = c.Update(ctx, have, client.DryRunAll, client.FieldValidation("Strict"))
		require.False(t, apierrors.IsConflict(answer))
	})
	return answer
}
