// SPDX-License-Identifier: Apache-2.0

// Package podresources asks the kubelet which devices a pod was given: the
// pod-resources API (v1, https://github.com/kubernetes/kubelet/tree/master/pkg/apis/podresources)
// on its unix socket, or the device manager's checkpoint file where there is no
// socket. It speaks gRPC as HTTP/2 frames of net/http: one unary call does not
// justify linking a gRPC stack into a process that lives for milliseconds.
package podresources

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
)

// timeout bounds one look-up; the kubelet answers from memory.
const timeout = 10 * time.Second

// Found is what the kubelet knows of one pod.
type Found struct {
	// Devices are IDs by resource name: in the order of the pod's containers, for
	// the networks are listed in that order, and sorted within each.
	Devices map[string][]string
	// Claims are the names of the resource claims that were prepared for it; nil may
	// also mean that this kubelet does not tell (before Kubernetes 1.34).
	Claims []string
}

// Devices asks for a pod. kubeletDir is the kubelet's root directory, usually
// /var/lib/kubelet; the error wraps fs.ErrNotExist when no kubelet has left anything
// there.
func Devices(ctx context.Context, kubeletDir string, pod conf.Pod) (Found, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	socket := filepath.Join(kubeletDir, "pod-resources", "kubelet.sock")
	var found Found
	_, err := os.Stat(socket)
	switch {
	case err == nil:
		found, err = ask(ctx, socket, pod)
	case errors.Is(err, fs.ErrNotExist):
		found.Devices, err = fromCheckpoint(kubeletDir, pod.UID)
	}
	if err != nil {
		return Found{}, fmt.Errorf("devices of pod %s: %w", pod, err)
	}
	return found, nil
}

// Checkpointed reads the devices of a pod, by resource name, from the checkpoint alone. It
// also has those of init containers other than sidecars, which the API does not tell of
// (pkg/kubelet/apis/podresources/server_v1.go); nil where there is no checkpoint, or the
// runtime passes no UID.
func Checkpointed(kubeletDir string, pod conf.Pod) (map[string][]string, error) {
	if pod.UID == "" {
		return nil, nil
	}
	devices, err := fromCheckpoint(kubeletDir, pod.UID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return devices, err
}

// ask calls Get, and List where Get is not served: it sits behind a feature
// gate before Kubernetes 1.34, and the kubelet's refusal has no code of its own.
func ask(ctx context.Context, socket string, pod conf.Pod) (Found, error) {
	c := dial(socket)
	defer c.http.CloseIdleConnections()
	reply, getErr := c.call(ctx, "Get", encodeGet(pod))
	if getErr == nil {
		return decodeReply(reply, pod)
	}
	var status statusError
	if !errors.As(getErr, &status) {
		return Found{}, getErr
	}
	reply, err := c.call(ctx, "List", nil)
	if err != nil {
		return Found{}, errors.Join(getErr, err)
	}
	return decodeReply(reply, pod)
}
