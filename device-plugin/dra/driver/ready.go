// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"k8s.io/dynamic-resource-allocation/resourceslice"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// heed notes what kubelet says of the registration.
func (d *Driver) heed(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if said, ok := request.(*registerapi.RegistrationStatus); ok {
		d.mu.Lock()
		if d.unregistered = nil; !said.PluginRegistered {
			d.unregistered = fmt.Errorf("kubelet does not take the driver: %s", said.Error)
		}
		d.mu.Unlock()
	}
	return handle(ctx, request)
}

// Ready is nil if kubelet knows the driver and the slices are as they should be.
func (d *Driver) Ready() error {
	d.mu.Lock()
	errs := []error{d.unregistered}
	if d.mode == modeUnknown {
		errs = append(errs, errUnread)
	}
	d.mu.Unlock()
	return errors.Join(append(errs, d.slices.published())...)
}

// Failed receives the error of background work after which the process has to end.
func (d *Driver) Failed() <-chan error { return d.failed }

// HandleError implements kubeletplugin.DRAPlugin.
func (d *Driver) HandleError(_ context.Context, err error, msg string) {
	d.log.Error("kubelet plugin", "doing", msg, "err", err)
	d.fail(fmt.Errorf("%s: %w", msg, err))
}

// fail passes on an error after which the process has to end.
func (d *Driver) fail(err error) {
	select {
	case d.failed <- err:
	default: // one is enough
	}
}

// slicesFailed notes an error of the controller of slices.
func (d *Driver) slicesFailed(err error, doing string) {
	var dropped *resourceslice.DroppedFieldsError
	if !errors.As(err, &dropped) || !slices.Contains(dropped.DisabledFeatures(), "DRADeviceTaints") {
		d.log.Error("slices", "doing", doing, "err", err)
		return
	}
	d.keepsTaints(false)
}
