// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// DaemonSetState is what the API server says about a DaemonSet at one moment.
type DaemonSetState int

// The states. The zero value is none of them: nothing was read yet.
const (
	DaemonSetPresent  DaemonSetState = iota + 1
	DaemonSetDeleting                // it has a deletionTimestamp
	DaemonSetDeleted
)

// daemonSet is the part of the object that tells its state.
type daemonSet struct {
	Metadata struct {
		DeletionTimestamp *string `json:"deletionTimestamp"`
	} `json:"metadata"`
}

func (d daemonSet) state() DaemonSetState {
	if d.Metadata.DeletionTimestamp != nil {
		return DaemonSetDeleting
	}
	return DaemonSetPresent
}

// DaemonSet reads a DaemonSet's state. The error wraps ErrNotFound if there is none of that
// name, which does not prove that one was deleted.
func (c *Client) DaemonSet(ctx context.Context, namespace, name string) (DaemonSetState, error) {
	var d daemonSet
	if err := c.do(ctx, request{method: http.MethodGet, path: daemonSetPath(namespace) + "/" + url.PathEscape(name)}, &d); err != nil {
		return 0, fmt.Errorf("daemonset %s/%s: %w", namespace, name, err)
	}
	return d.state(), nil
}

// WatchDaemonSet reports the state of a DaemonSet, first the present one if it
// exists and then every change, until the server ends the watch (nil), which it
// does every half hour or so, or ctx ends. The server checks credentials only
// when a watch begins: it tells of the deletion although the permission to ask
// was deleted a moment before.
func (c *Client) WatchDaemonSet(ctx context.Context, namespace, name string, report func(DaemonSetState)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // closes the stream on every way out
	query := url.Values{"watch": {"true"}, "fieldSelector": {"metadata.name=" + name}}
	resp, err := c.send(ctx, request{method: http.MethodGet, path: daemonSetPath(namespace), query: query})
	if err != nil {
		return fmt.Errorf("watch daemonset %s/%s: %w", namespace, name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody)) // of an error; half of it is as good
		return fmt.Errorf("watch daemonset %s/%s: %w", namespace, name, &StatusError{Code: resp.StatusCode, Message: message(body)})
	}
	for events := json.NewDecoder(resp.Body); ; {
		var event struct {
			Type   string
			Object daemonSet
		}
		switch err := events.Decode(&event); {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("watch daemonset %s/%s: %w", namespace, name, err)
		}
		switch event.Type {
		case "ADDED", "MODIFIED":
			report(event.Object.state())
		case "DELETED":
			report(DaemonSetDeleted)
		case "ERROR":
			return fmt.Errorf("watch daemonset %s/%s: the server ended it", namespace, name)
		}
	}
}

func daemonSetPath(namespace string) string {
	return "apis/apps/v1/namespaces/" + url.PathEscape(namespace) + "/daemonsets"
}
