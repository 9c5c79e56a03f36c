// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// messageLimit of a condition, bytes; the API allows 32 KiB, people read less.
const messageLimit = 2048

// metadataOnly asks for no more of the patched object: the watch brings it anyway.
const metadataOnly = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

// Client is a manager's client that also sends merge patches which were put together by
// hand: finding the difference of two large objects, and decoding the answer, cost more
// than all the rest of a work item.
type Client struct {
	client.Client
	api rest.Interface
	// patches is for merge patches, at server.
	patches *http.Client
	server  string
}

func newClient(mgr ctrl.Manager) (*Client, error) {
	cfg := rest.CopyConfig(mgr.GetConfig())
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(mgr.GetScheme()).WithoutConversion() // of errors
	api, err := rest.UnversionedRESTClientForConfigAndClient(cfg, mgr.GetHTTPClient())
	if err != nil {
		return nil, err
	}
	c := &Client{Client: mgr.GetClient(), api: api}
	return c, c.patchThrough(cfg, mgr.GetHTTPClient())
}

// patchThrough has patches sent by hc, past client-go's requests: those cost a third more.
func (c *Client) patchThrough(cfg *rest.Config, hc *http.Client) error {
	server, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return err
	}
	c.patches, c.server = hc, strings.TrimSuffix(server.String(), "/")
	return nil
}

// Delete deletes an object that was read, and no other: one that somebody made under its
// name since then stays, and the error is a conflict.
func (c *Client) Delete(ctx context.Context, obj client.Object, opts ...client.DeleteOption) error {
	uid := obj.GetUID()
	if uid == "" {
		return fmt.Errorf("delete %T %s: it was not read before", obj, obj.GetName())
	}
	return c.Client.Delete(ctx, obj, append([]client.DeleteOption{client.Preconditions{UID: &uid}}, opts...)...)
}

// locked is a patch from old that holds only for the version of old.
func locked(old client.Object) client.Patch {
	return client.MergeFromWithOptions(old, client.MergeFromWithOptimisticLock{})
}

// conflictAgain is when to try again what was refused because the object has changed. The
// cache is that much behind; its event may be one that wakes nobody.
const conflictAgain = 500 * time.Millisecond

// orAgain tries a work item again, without a complaint, whose premise has changed.
func orAgain(result ctrl.Result, err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: conflictAgain}, nil
	}
	return result, err
}

// mergePatch changes obj in the cluster, if it still has the version that obj has, and
// obj's versions to what they are then; else the error is a conflict. An empty
// subresource is the object itself.
func (c *Client) mergePatch(ctx context.Context, obj client.Object, subresource string, patch map[string]any) error {
	kind, err := c.GroupVersionKindFor(obj)
	if err != nil {
		return err
	}
	mapping, err := c.RESTMapper().RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return err
	}
	path := c.server + "/apis/" + kind.Group + "/" + kind.Version
	if kind.Group == "" {
		path = c.server + "/api/" + kind.Version
	}
	if ns := obj.GetNamespace(); ns != "" {
		path += "/namespaces/" + url.PathEscape(ns)
	}
	path += "/" + mapping.Resource.Resource + "/" + url.PathEscape(obj.GetName())
	if subresource != "" {
		path += "/" + subresource
	}
	metadata, ok := patch["metadata"].(map[string]any)
	if !ok {
		metadata = map[string]any{}
		patch["metadata"] = metadata
	}
	metadata["resourceVersion"] = obj.GetResourceVersion()
	data, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	body, err := c.send(ctx, path+"?fieldManager="+string(FieldOwner), data)
	if err != nil {
		return fmt.Errorf("patch %s %s: %w", kind.Kind, obj.GetName(), err)
	}
	var answer struct {
		Metadata struct {
			Generation      int64  `json:"generation"`
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
	}
	if err := jsonv2.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("answer to the patch of %s %s: %w", kind.Kind, obj.GetName(), err)
	}
	obj.SetGeneration(answer.Metadata.Generation)
	obj.SetResourceVersion(answer.Metadata.ResourceVersion)
	return nil
}

// send sends a merge patch and returns the answer. An error of the API server is an
// *apierrors.StatusError. Nothing is repeated: the work queue does that.
func (c *Client) send(ctx context.Context, address string, patch []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, address, bytes.NewReader(patch))
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{"Content-Type": {string(types.MergePatchType)}, "Accept": {metadataOnly}}
	resp, err := c.patches.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil || resp.StatusCode < http.StatusMultipleChoices {
		return body, err
	}
	var status metav1.Status
	if err := json.Unmarshal(body, &status); err != nil || status.Kind != "Status" {
		return nil, apierrors.NewGenericServerResponse(resp.StatusCode, "patch", schema.GroupResource{}, "", string(body[:min(len(body), 200)]), 0, true)
	}
	return nil, &apierrors.StatusError{ErrStatus: status}
}

// answerLimit of bytes; objects in etcd are smaller.
const answerLimit = 4 << 20

// patchConditions writes conditions of obj that changed. list is obj's own. Others
// write conditions of the same object, so the patch holds only for the version read.
func (c *Client) patchConditions(ctx context.Context, obj client.Object, list *[]metav1.Condition, conditions ...metav1.Condition) error {
	return c.patchStatus(ctx, obj, list, map[string]any{}, false, conditions...)
}

// patchStatus writes conditions that changed, and with them the other fields of the status;
// those alone if they are said to have changed.
func (c *Client) patchStatus(ctx context.Context, obj client.Object, list *[]metav1.Condition, status map[string]any, changed bool, conditions ...metav1.Condition) error {
	for _, cond := range conditions {
		if len(cond.Message) > messageLimit {
			cond.Message = strings.ToValidUTF8(cond.Message[:messageLimit], "")
		}
		changed = meta.SetStatusCondition(list, cond) || changed
	}
	if !changed {
		return nil
	}
	status["conditions"] = *list
	return client.IgnoreNotFound(c.mergePatch(ctx, obj, "status", map[string]any{"status": status}))
}

// difference is the merge patch that makes the struct now out of the struct old, which has
// the same type: whatever fields it has, so that none can be forgotten here. Nested
// structs are gone into, lists and maps are replaced whole.
func difference(old, now any) map[string]any {
	patch := map[string]any{}
	was, is := reflect.ValueOf(old), reflect.ValueOf(now)
	for i := range is.NumField() {
		name, _, _ := strings.Cut(is.Type().Field(i).Tag.Get("json"), ",")
		a, b := was.Field(i), is.Field(i)
		switch {
		case equality.Semantic.DeepEqual(a.Interface(), b.Interface()):
		case b.IsZero():
			patch[name] = nil // takes the key away
		case b.Kind() == reflect.Struct:
			patch[name] = difference(a.Interface(), b.Interface())
		default:
			patch[name] = b.Interface()
		}
	}
	return patch
}
