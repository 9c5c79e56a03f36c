// SPDX-License-Identifier: Apache-2.0

// Package apiclient is a manager's client, cache and mapper where those of
// controller-runtime cost more than the work itself. Measured in processor time of the
// operator with thousands of nodes: patches by client-go cost a third more than those sent past
// it, decoding each event of a node state seven times costs five times as much as once, and
// looking the resource of a kind up at every read was a sixth of all.
package apiclient

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// FieldOwner of what the operator applies.
const FieldOwner = client.FieldOwner("sriovkit-operator")

// Applied reports whether this operator made an object.
func Applied(obj client.Object) bool {
	return slices.ContainsFunc(obj.GetManagedFields(), func(m metav1.ManagedFieldsEntry) bool {
		return m.Manager == string(FieldOwner) && m.Operation == metav1.ManagedFieldsOperationApply
	})
}

// metadataOnly has the API server answer a PATCH with the metadata alone: the object itself
// comes by the watch.
const metadataOnly = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

// Client is a manager's client that also sends merge patches which were put together by
// hand: finding the difference of two large objects, and decoding the answer, cost more
// than all the rest of a work item.
type Client struct {
	client.Client
	REST rest.Interface // for requests that no client.Client makes
	// patches is for merge patches, at server: past client-go's requests, which cost a third
	// more.
	patches *http.Client
	server  string
}

// New adds to c what sends merge patches, by hc to the API server that cfg names.
func New(c client.Client, cfg *rest.Config, hc *http.Client) (*Client, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(c.Scheme()).WithoutConversion() // of errors
	api, err := rest.UnversionedRESTClientForConfigAndClient(cfg, hc)
	if err != nil {
		return nil, err
	}
	server, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, err
	}
	return &Client{Client: c, REST: api, patches: hc, server: strings.TrimSuffix(server.String(), "/")}, nil
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

// Locked is a patch from old that holds only for the version of old.
func Locked(old client.Object) client.Patch {
	return client.MergeFromWithOptions(old, client.MergeFromWithOptimisticLock{})
}

// ConflictAgain is when to try again after a conflict: by then the cache usually shows the
// change that caused it. Its event cannot be waited for, as some events start no reconcile.
const ConflictAgain = 500 * time.Millisecond

// OrAgain tries a work item again, without a complaint, whose premise has changed.
func OrAgain(result ctrl.Result, err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: ConflictAgain}, nil
	}
	return result, err
}

// MergePatch changes obj in the cluster, if it still has the version that obj has, and
// obj's versions to what they are then; else the error is a conflict. An empty
// subresource is the object itself.
func (c *Client) MergePatch(ctx context.Context, obj client.Object, subresource string, patch map[string]any) error {
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
