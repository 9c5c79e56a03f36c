// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/sriovkit/sriovkit/multus-shim/attached"
	"github.com/sriovkit/sriovkit/multus-shim/conf"
	"github.com/sriovkit/sriovkit/multus-shim/deviceinfo"
	"github.com/sriovkit/sriovkit/multus-shim/gateway"
	"github.com/sriovkit/sriovkit/multus-shim/kube"
	"github.com/sriovkit/sriovkit/multus-shim/netstatus"
	"github.com/sriovkit/sriovkit/multus-shim/plan"
	"github.com/sriovkit/sriovkit/multus-shim/record"
)

// courtesy bounds requests that nobody waits for: the status of a pod that
// asked for no network, and events.
const courtesy = 2 * time.Second

// publish writes network-status. Under the policy "warn" a pod that has its
// networks starts without it.
func (c *call) publish(ctx context.Context, p *pod, r *record.Record, attachments []plan.Attachment) error {
	err := c.writeStatus(ctx, p, r, attachments)
	switch {
	case errors.Is(err, kube.ErrPodGone):
		c.log.Warn("network-status: the pod is gone", "err", err)
		return nil
	case err != nil && c.conf.Policy.StatusStrict:
		return coded(types.ErrTryAgainLater, fmt.Errorf("network-status: %w", err))
	case err != nil:
		c.log.Warn("network-status is not written", "err", err)
		return nil
	}
	if c.conf.Policy.Events == conf.EventsAll {
		for _, a := range attachments {
			c.event(ctx, p, kube.Event{Reason: "AddedInterface", Message: fmt.Sprintf("Add %s from %s", a.Ifname, a.Network)})
		}
	}
	return nil
}

func (c *call) writeStatus(ctx context.Context, p *pod, r *record.Record, attachments []plan.Attachment) error {
	switch policy := c.conf.Policy.Status; {
	case p.Name == "" || p.Namespace == "":
		return nil
	case policy == conf.StatusNever || policy == conf.StatusAnnotated && !p.annotated():
		return nil
	}
	client, err := c.api()
	if err != nil || client == nil {
		return err
	}
	value, err := c.status(r, attachments)
	if err != nil {
		return err
	}
	budget, unasked := c.conf.Timeout.API, !p.annotated() && !c.conf.Policy.StatusStrict
	if unasked {
		budget = min(budget, courtesy)
	}
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	uid := p.UID
	if p.static() {
		uid = "" // the mirror's differs, and is written by nobody else
	}
	return client.PatchStatus(ctx, p.Namespace, p.Name, uid, value, unasked)
}

// announce writes for the drivers of resource claims which interface each of their devices
// became. An error is only logged: the pod has its networks by then.
func (c *call) announce(r *record.Record, attachments []plan.Attachment) {
	f := attached.File{PodUID: c.pod.UID, PodNamespace: c.pod.Namespace, PodName: c.pod.Name, ContainerID: c.ContainerID}
	for i, a := range attachments {
		if a.DeviceID == "" {
			continue
		}
		one, err := attached.Of(a.Network, a.DeviceID, a.Ifname, r.Entries[i].Result)
		if err != nil {
			c.log.Warn("addresses of a device are not told", "network", a.Network, "err", err)
		}
		f.Attachments = append(f.Attachments, one)
	}
	if f.PodUID == "" || len(f.Attachments) == 0 {
		return
	}
	if err := attached.Write(c.attachedDir(), f); err != nil {
		c.log.Warn("attachments are not told to the drivers of resource claims", "err", err)
	}
}

// attachedDir is beside the directory of device information files.
func (c *call) attachedDir() string {
	return filepath.Join(filepath.Dir(c.conf.DeviceInfoDir), "attachments")
}

func (c *call) status(r *record.Record, attachments []plan.Attachment) (string, error) {
	var entries []netstatus.Entry
	for i, a := range attachments {
		in := netstatus.Attachment{Name: a.Network, Default: a.Default, Result: r.Entries[i].Result}
		if a.DefaultRoute != nil {
			in.DefaultRoute = gateways(gateway.Wanted(a.DefaultRoute.Gateways, gateway.OfResult(in.Result)))
		}
		if a.DeviceInfo != "" {
			info, err := deviceinfo.Read(a.DeviceInfo)
			if err != nil {
				c.log.Warn("device info left out of network-status", "err", err)
			}
			in.DeviceInfo = info
		}
		some, err := netstatus.Build(in)
		if err != nil {
			return "", err
		}
		entries = append(entries, some...)
	}
	return netstatus.Marshal(entries)
}

func gateways(routes []gateway.Route) []netip.Addr {
	var out []netip.Addr
	for _, r := range routes {
		if r.Gateway.IsValid() {
			out = append(out, r.Gateway)
		}
	}
	return out
}

// explain posts the reason why an ADD failed on the pod, where its owner looks.
func (c *call) explain(ctx context.Context, p *pod, err error) {
	e := kube.Event{Warning: true, Reason: "FailedNetworks", Message: err.Error()}
	var missing *missingNADError
	var ours *codedError
	switch {
	case c.conf.Policy.Events == conf.EventsNone:
		return
	case errors.As(err, &missing):
		e.Reason = "NoNetworkFound"
	case errors.As(err, &ours) && ours.code == types.ErrInvalidNetworkConfig:
		e.Reason = "InvalidNetworks"
	case errors.As(err, &ours) && ours.code == types.ErrTryAgainLater:
		return // it passes, or the server that would take the event is the trouble
	}
	c.event(context.WithoutCancel(ctx), p, e)
}

func (c *call) event(ctx context.Context, p *pod, e kube.Event) {
	client, err := c.api()
	if err != nil || client == nil || p.Name == "" || p.Namespace == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, courtesy)
	defer cancel()
	e.Namespace, e.Name, e.UID = p.Namespace, p.Name, p.UID
	e.Host, _ = os.Hostname()
	if err := client.Post(ctx, e); err != nil {
		c.log.Warn("event is not posted", "reason", e.Reason, "err", err)
	}
}
