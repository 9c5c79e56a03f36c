// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"slices"
	"strings"
	"time"

	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
)

// Of the condition of a claim's device.
const (
	conditionReady = "Ready"
	reasonRefused  = "PrepareFailed"
)

const (
	tellTime   = 5 * time.Second // bounds what kubelet waits for after a refusal
	maxMessage = 1 << 10         // bytes of a condition's message; the API takes 32 KiB
)

// tell writes into a claim's status why it was not prepared, and takes that back when it was.
// The claim is as the API server had it for the call: where nothing is to be changed it is
// not asked again.
func (d *Driver) tell(ctx context.Context, claim *resourceapi.ResourceClaim, refused error) {
	change := func(c *resourceapi.ResourceClaim) { d.setRefused(c, refused) }
	after := claim.DeepCopy()
	if change(after); statusEqual(after.Status.Devices, claim.Status.Devices) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	if err := d.changeStatus(ctx, claim.Namespace, claim.Name, claim.UID, change); err != nil {
		d.log.Warn("a claim's status does not tell whether it was refused", "claim", claim.Namespace+"/"+claim.Name, "err", err)
	}
}

// setRefused has the devices that a claim has of this node tell why they were not prepared;
// nil takes that back.
func (d *Driver) setRefused(claim *resourceapi.ResourceClaim, why error) {
	if claim.Status.Allocation == nil {
		return
	}
	for _, r := range claim.Status.Allocation.Devices.Results {
		if r.Driver != d.opts.Name || r.Pool != d.opts.Node {
			continue
		}
		if why != nil {
			text := why.Error()
			text = strings.ToValidUTF8(text[:min(len(text), maxMessage)], "")
			setReady(d.statusOf(claim, r.Device), metav1.Condition{Status: metav1.ConditionFalse, Reason: reasonRefused, Message: text})
			continue
		}
		claim.Status.Devices = slices.DeleteFunc(claim.Status.Devices, func(s resourceapi.AllocatedDeviceStatus) bool {
			return s.Driver == r.Driver && s.Pool == r.Pool && s.Device == r.Device &&
				slices.ContainsFunc(s.Conditions, func(c metav1.Condition) bool { return c.Type == conditionReady && c.Reason == reasonRefused })
		})
	}
}

// changeStatus changes the devices in a claim's status. A claim that is gone, or another by
// now, is left alone.
func (d *Driver) changeStatus(ctx context.Context, namespace, name string, uid types.UID, change func(*resourceapi.ResourceClaim)) error {
	api := d.opts.Client.ResourceV1().ResourceClaims(namespace)
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		claim, err := api.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if claim.UID != uid || claim.Status.Allocation == nil {
			return nil
		}
		before := claim.DeepCopy()
		if change(claim); statusEqual(before.Status.Devices, claim.Status.Devices) {
			return nil
		}
		_, err = api.UpdateStatus(ctx, claim, metav1.UpdateOptions{})
		return err
	})
}

// statusOf finds the status of a device of this node, and makes it if there is none.
func (d *Driver) statusOf(claim *resourceapi.ResourceClaim, device string) *resourceapi.AllocatedDeviceStatus {
	i := slices.IndexFunc(claim.Status.Devices, func(s resourceapi.AllocatedDeviceStatus) bool {
		return s.Driver == d.opts.Name && s.Pool == d.opts.Node && s.Device == device
	})
	if i < 0 {
		claim.Status.Devices = append(claim.Status.Devices, resourceapi.AllocatedDeviceStatus{Driver: d.opts.Name, Pool: d.opts.Node, Device: device})
		i = len(claim.Status.Devices) - 1
	}
	return &claim.Status.Devices[i]
}

// setReady sets the condition Ready.
func setReady(s *resourceapi.AllocatedDeviceStatus, c metav1.Condition) {
	c.Type = conditionReady
	meta.SetStatusCondition(&s.Conditions, c)
}

func statusEqual(a, b []resourceapi.AllocatedDeviceStatus) bool {
	return (&resourceapi.ResourceClaimStatus{Devices: a}).String() == (&resourceapi.ResourceClaimStatus{Devices: b}).String()
}
