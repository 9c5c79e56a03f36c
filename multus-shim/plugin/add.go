// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/sriovkit/sriovkit/multus-shim/deviceinfo"
	"github.com/sriovkit/sriovkit/multus-shim/gateway"
	"github.com/sriovkit/sriovkit/multus-shim/plan"
	"github.com/sriovkit/sriovkit/multus-shim/record"
)

// add attaches the pod to all its networks, or to none.
func add(ctx context.Context, c *call) error {
	if err := c.waitReady(ctx); err != nil {
		return err
	}
	release, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := c.clean(ctx); err != nil {
		return err
	}
	p, attachments, err := c.prepare(ctx)
	if err != nil {
		c.explain(ctx, p, err)
		return err
	}
	result, err := c.attach(ctx, p, attachments)
	if err != nil {
		c.explain(ctx, p, err)
		return err
	}
	_, err = c.stdout.Write(result)
	return err
}

// prepare looks up and plans; it changes nothing.
func (c *call) prepare(ctx context.Context) (*pod, []plan.Attachment, error) {
	if err := c.pod.Check(); err != nil {
		return &pod{}, nil, coded(types.ErrInvalidEnvironmentVariables, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.conf.Timeout.API, fmt.Errorf("apiTimeout of %s is over", c.conf.Timeout.API))
	defer cancel()
	p, err := c.lookupPod(ctx)
	if err != nil {
		return &pod{Pod: c.pod}, nil, err
	}
	networks, err := c.networks(ctx, p)
	if err != nil {
		return p, nil, err
	}
	devices, err := c.devices(ctx, p, networks)
	if err != nil {
		return p, nil, err
	}
	var existing []string
	if len(networks) > 1 { // the default network's plugin looks for itself
		if existing, err = gateway.Interfaces(c.Netns); err != nil {
			return p, nil, coded(types.ErrInvalidNetNS, err)
		}
		others, err := c.recordedInterfaces()
		if err != nil {
			return p, nil, coded(types.ErrIOFailure, err)
		}
		existing = append(existing, others...)
	}
	attachments, warnings, err := plan.Make(plan.Input{
		ContainerID: c.ContainerID, Ifname: c.IfName, Existing: existing, Args: c.args, RuntimeConfig: c.conf.RuntimeConfig,
		Networks: networks, Devices: devices, DeviceInfoDir: c.conf.DeviceInfoDir,
		Lenient: c.conf.Policy.Lenient, AnyDevice: c.conf.Policy.AnyDevice,
	})
	for _, w := range warnings {
		c.log.Warn("network selection", "warning", w)
	}
	if err != nil {
		return p, nil, coded(types.ErrInvalidNetworkConfig, err)
	}
	return p, attachments, nil
}

// attach runs the plan and returns what the runtime reads. What it started it
// undoes if it cannot finish.
func (c *call) attach(ctx context.Context, p *pod, attachments []plan.Attachment) (stdout []byte, err error) {
	r := &record.Record{Network: c.conf.Name, ContainerID: c.ContainerID, Ifname: c.IfName, Netns: c.Netns, Pod: c.pod}
	for _, a := range attachments {
		if err := c.runner.Installed(a.Attachment); err != nil {
			return nil, fmt.Errorf("network %s, interface %s: %w", a.Network, a.Ifname, err)
		}
		r.Entries = append(r.Entries, record.Entry{Attachment: a.Attachment})
	}
	if err := c.store.Create(r); err != nil {
		return nil, coded(types.ErrIOFailure, fmt.Errorf("record: %w", err))
	}
	done := false
	defer func() {
		if !done {
			err = withConsequence(err, c.undo(ctx, r))
		}
	}()
	for i, a := range attachments {
		if err := c.attachOne(ctx, r, i, a); err != nil {
			return nil, fmt.Errorf("network %s, interface %s: %w", a.Network, a.Ifname, err)
		}
		c.log.Info("attached", "network", a.Network, "ifname", a.Ifname)
	}
	if err := c.moveDefaultRoutes(ctx, r, attachments); err != nil {
		return nil, err
	}
	if stdout, err = c.convert(r.Entries[0].Result); err != nil {
		return nil, err
	}
	if err := c.publish(ctx, p, r, attachments); err != nil {
		return nil, err
	}
	done = true
	c.announce(r, attachments)
	return stdout, nil
}

func (c *call) attachOne(ctx context.Context, r *record.Record, i int, a plan.Attachment) error {
	e := &r.Entries[i]
	if a.DeviceInfo != "" {
		if err := deviceinfo.Prepare(c.conf.DeviceInfoDir, a.Resource, a.DeviceID, a.DeviceInfo); err != nil {
			return coded(types.ErrIOFailure, err)
		}
	}
	if err := c.store.SaveResult(c.key(), c.Netns, *e); err != nil {
		return coded(types.ErrIOFailure, err)
	}
	result, started, err := c.runner.Add(ctx, c.container(), e.Attachment)
	if err != nil {
		if e.Unstarted = len(e.Plugins) - started; e.Unstarted > 0 {
			err = withConsequence(err, c.store.Update(r, i))
		}
		return err
	}
	e.Added, e.Result = true, result
	return c.remember(r, i)
}

// remember writes what ADD changed about an attachment to both sources of DEL.
func (c *call) remember(r *record.Record, changed ...int) error {
	for _, i := range changed {
		if err := c.store.SaveResult(c.key(), c.Netns, r.Entries[i]); err != nil {
			return coded(types.ErrIOFailure, err)
		}
	}
	return coded(types.ErrIOFailure, c.store.Update(r, changed...))
}

// undo deletes what an ADD started, also when the runtime has given up on it.
func (c *call) undo(ctx context.Context, r *record.Record) error {
	if err := c.detach(context.WithoutCancel(ctx), r, c.Netns); err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	return nil
}

// recordedInterfaces are those of the container's attachments under other CNI_IFNAMEs,
// network devices or not. eth0 comes first and needs no look.
func (c *call) recordedInterfaces() ([]string, error) {
	if c.key() == c.ContainerID {
		return nil, nil
	}
	keys, err := c.store.Records(c.ContainerID)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, key := range keys {
		r, err := c.store.Load(key)
		if err != nil {
			return nil, err
		}
		for _, e := range r.Entries {
			names = append(names, e.Ifname)
		}
	}
	return names, nil
}

// clean deletes what an earlier ADD for the same container left when it was killed and the
// runtime came back without a DEL in between. Whatever an ADD of this plugin leaves has a
// record, so only a damaged one makes it look further.
func (c *call) clean(ctx context.Context) error {
	r, err := c.store.Load(c.key())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if errors.Is(err, record.ErrCorrupt) {
		r, err = c.store.Find(c.key(), c.IfName, c.args)
	}
	if err != nil {
		return coded(types.ErrIOFailure, err)
	}
	if !slices.ContainsFunc(r.Entries, func(e record.Entry) bool { return !e.Added }) {
		return coded(types.ErrInvalidEnvironmentVariables,
			fmt.Errorf("CNI_CONTAINERID %s: the container is attached with %s already, DEL comes before another ADD", c.ContainerID, r.Ifname))
	}
	c.log.Warn("cleaning up after an ADD that did not finish", "record", c.store.Path(c.key()))
	return c.detach(ctx, r, c.Netns)
}

// moveDefaultRoutes gives the default routes to the attachment that asked for
// them, and tells all results so.
func (c *call) moveDefaultRoutes(ctx context.Context, r *record.Record, attachments []plan.Attachment) error {
	for chosen, a := range attachments {
		if a.DefaultRoute == nil {
			continue
		}
		routes := gateway.Wanted(a.DefaultRoute.Gateways, gateway.OfResult(r.Entries[chosen].Result))
		if len(routes) == 0 {
			c.log.Warn("default-route without gateways, and the network set none", "network", a.Network)
			return nil
		}
		if err := gateway.Apply(ctx, c.Netns, a.Ifname, routes); err != nil {
			return fmt.Errorf("network %s: default-route: %w", a.Network, err)
		}
		var all []int
		for i := range r.Entries {
			edit := gateway.WithoutRoutes
			if i == chosen {
				edit = gateway.WithRoutes
			}
			result, err := edit(r.Entries[i].Result, routes)
			if err != nil {
				return err
			}
			r.Entries[i].Result = result
			all = append(all, i)
		}
		return c.remember(r, all...) // at most one attachment may ask
	}
	return nil
}

// convert returns the default network's result in the version of multus-shim's configuration,
// byte for byte where it has that version already.
func (c *call) convert(result json.RawMessage) ([]byte, error) {
	want := c.conf.CNIVersion
	if want == "" {
		want = "0.1.0"
	}
	var have struct{ CNIVersion string }
	if err := json.Unmarshal(result, &have); err != nil {
		return nil, err
	}
	if have.CNIVersion == want {
		return append(slices.Clone(result), '\n'), nil
	}
	parsed, err := create.Create(have.CNIVersion, result)
	if err != nil {
		return nil, err
	}
	converted, err := parsed.GetAsVersion(want)
	if err != nil {
		return nil, coded(types.ErrIncompatibleCNIVersion, err)
	}
	var out bytes.Buffer
	err = converted.PrintTo(&out)
	return out.Bytes(), err
}
