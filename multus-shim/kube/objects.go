// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sriovkit/sriovkit/multus-shim/rawjson"
)

// ErrPodGone: the pod was deleted, or replaced by one of the same name.
var ErrPodGone = errors.New("pod is gone")

// ResourceName is the annotation of a NAD that names its device resource.
const ResourceName = "k8s.v1.cni.cncf.io/resourceName"

// NetworkStatus is the annotation of a pod with what its networks gave it.
const NetworkStatus = "k8s.v1.cni.cncf.io/network-status"

// Metadata is the part of an object's metadata that is used here.
type Metadata struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace"`
	UID         string            `json:"uid"`
	Annotations map[string]string `json:"annotations"`
}

// check finds answers that are not the object that was asked for, such as those of a
// proxy: an empty object would be a NAD that leaves its configuration to a file.
func (m Metadata) check(namespace, name string) error {
	if m.Namespace != namespace || m.Name != name {
		return fmt.Errorf("asked for %s/%s, the server's answer is of %q/%q", namespace, name, m.Namespace, m.Name)
	}
	return nil
}

// Pod is what an ADD needs of a pod.
type Pod struct {
	Metadata Metadata `json:"metadata"`
	Spec     struct {
		NodeName string `json:"nodeName"`
		Claims   []struct {
			ClaimName *string `json:"resourceClaimName"` // nil where it is made from a template
		} `json:"resourceClaims"`
	} `json:"spec"`
	Status struct {
		ResourceClaims []struct {
			Name      string  `json:"name"`
			ClaimName *string `json:"resourceClaimName"`
		} `json:"resourceClaimStatuses"`
		ExtendedResourceClaim *struct {
			ClaimName string `json:"resourceClaimName"`
		} `json:"extendedResourceClaimStatus"`
		Containers []struct {
			ID string `json:"containerID"` // RUNTIME://ID, "" until it was started
		} `json:"containerStatuses"`
	} `json:"status"`
}

// Runtime is the name of the container runtime that runs the pod, such as "containerd" or
// "cri-o"; "" until the kubelet has told.
func (p *Pod) Runtime() string {
	for _, c := range p.Status.Containers {
		if name, _, ok := strings.Cut(c.ID, "://"); ok {
			return name
		}
	}
	return ""
}

// Claims are the names of the pod's resource claims: those it names, those made from
// its templates, and the one that was made for extended resources that a driver backs.
func (p *Pod) Claims() []string {
	var names []string
	for _, ref := range p.Spec.Claims {
		if ref.ClaimName != nil {
			names = append(names, *ref.ClaimName)
		}
	}
	for _, ref := range p.Status.ResourceClaims {
		if ref.ClaimName != nil { // else the claim was not needed
			names = append(names, *ref.ClaimName)
		}
	}
	if extended := p.Status.ExtendedResourceClaim; extended != nil && extended.ClaimName != "" {
		names = append(names, extended.ClaimName)
	}
	return names
}

// NAD is a NetworkAttachmentDefinition.
type NAD struct {
	Metadata Metadata `json:"metadata"`
	Spec     struct {
		Config string `json:"config"` // "" leaves the configuration to a file
	} `json:"spec"`
}

// Pod reads a pod.
func (c *Client) Pod(ctx context.Context, namespace, name string) (*Pod, error) {
	var pod Pod
	err := c.do(ctx, request{method: http.MethodGet, path: podPath(namespace, name)}, &pod)
	if err != nil {
		return nil, fmt.Errorf("pod %s/%s: %w", namespace, name, err)
	}
	if err := pod.Metadata.check(namespace, name); err != nil {
		return nil, fmt.Errorf("pod: %w", err)
	}
	return &pod, nil
}

// NAD reads a NetworkAttachmentDefinition.
func (c *Client) NAD(ctx context.Context, namespace, name string) (*NAD, error) {
	path := "apis/k8s.cni.cncf.io/v1/namespaces/" + url.PathEscape(namespace) + "/network-attachment-definitions/" + url.PathEscape(name)
	var nad NAD
	if err := c.do(ctx, request{method: http.MethodGet, path: path}, &nad); err != nil {
		return nil, fmt.Errorf("network-attachment-definition %s/%s: %w", namespace, name, err)
	}
	if err := nad.Metadata.check(namespace, name); err != nil {
		return nil, fmt.Errorf("network-attachment-definition: %w", err)
	}
	return &nad, nil
}

// PatchStatus sets the network-status annotation of a pod with one merge patch,
// which leaves alone what other writers keep in its status. With a uid the
// server refuses the patch for another pod of the same name: ErrPodGone. courtesy
// tries once only.
func (c *Client) PatchStatus(ctx context.Context, namespace, name, uid, value string, courtesy bool) error {
	metadata := map[string]any{"annotations": map[string]string{NetworkStatus: value}}
	if uid != "" {
		metadata["uid"] = uid
	}
	err := c.do(ctx, request{
		method: http.MethodPatch, path: podPath(namespace, name) + "/status", once: courtesy, conflict: true,
		contentType: mergePatch, body: rawjson.Marshal(map[string]any{"metadata": metadata}),
	}, nil)
	var status *StatusError
	if errors.As(err, &status) && status.otherUID() {
		return fmt.Errorf("%w: %w", ErrPodGone, err)
	}
	return err
}

const mergePatch = "application/merge-patch+json"

// Event is one event on a pod.
type Event struct {
	Namespace, Name, UID  string
	Warning               bool
	Reason, Message, Host string
}

// Post sends an event, once: events are best effort. An ADD that is tried again
// says the same again: that is one Event, whose time moves on.
func (c *Client) Post(ctx context.Context, e Event) error {
	kind := "Normal"
	if e.Warning {
		kind = "Warning"
	}
	now := time.Now().UTC().Format(time.RFC3339)
	const maxMessage = 1024 // of the API
	message := e.Message[:min(len(e.Message), maxMessage)]
	name := eventName(e, message)
	body, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Event", "type": kind,
		"metadata":       map[string]string{"namespace": e.Namespace, "name": name},
		"involvedObject": map[string]string{"apiVersion": "v1", "kind": "Pod", "namespace": e.Namespace, "name": e.Name, "uid": e.UID},
		"reason":         e.Reason, "message": message,
		"source":         map[string]string{"component": "multus", "host": e.Host},
		"firstTimestamp": now, "lastTimestamp": now, "count": 1,
	})
	if err != nil {
		return err
	}
	path := "api/v1/namespaces/" + url.PathEscape(e.Namespace) + "/events"
	err = c.do(ctx, request{method: http.MethodPost, path: path, contentType: "application/json", body: body, once: true}, nil)
	var status *StatusError
	if !errors.As(err, &status) || status.Code != http.StatusConflict {
		return err
	}
	return c.do(ctx, request{
		method: http.MethodPatch, path: path + "/" + name, contentType: mergePatch, once: true,
		body: rawjson.Marshal(map[string]string{"lastTimestamp": now}),
	}, nil)
}

// eventName is the same for all tries of an ADD that fail alike.
func eventName(e Event, message string) string {
	sum := sha256.Sum256([]byte(e.UID + "\x00" + e.Reason + "\x00" + message))
	const maxName, hashed = 253, 8
	return fmt.Sprintf("%s.%x", e.Name[:min(len(e.Name), maxName-1-2*hashed)], sum[:hashed])
}

// Ready asks whether the server serves, and accepts the credentials.
func (c *Client) Ready(ctx context.Context) error {
	return c.do(ctx, request{method: http.MethodGet, path: "version"}, nil)
}

func podPath(namespace, name string) string {
	return "api/v1/namespaces/" + url.PathEscape(namespace) + "/pods/" + url.PathEscape(name)
}
