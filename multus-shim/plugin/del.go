// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/sriovkit/sriovkit/multus-shim/annotation"
	"github.com/sriovkit/sriovkit/multus-shim/attached"
	"github.com/sriovkit/sriovkit/multus-shim/delegate"
	"github.com/sriovkit/sriovkit/multus-shim/deviceinfo"
	"github.com/sriovkit/sriovkit/multus-shim/internal/brief"
	"github.com/sriovkit/sriovkit/multus-shim/record"
)

// del detaches what the record says was attached. It asks nobody: neither the
// pod nor its NADs need to exist any more.
func del(ctx context.Context, c *call) error {
	release, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer release()
	r, err := c.store.Find(c.key(), c.IfName, c.args)
	switch {
	case err != nil:
		return errors.Join(c.detachKnown(ctx, r, c.Netns), coded(types.ErrIOFailure, fmt.Errorf(
			"not all that this container is attached to can be read; detach the rest by hand and remove the file: %w", err)))
	case r == nil:
		return c.delUnrecorded(ctx)
	}
	return c.detach(ctx, r, c.Netns)
}

// delUnrecorded is DEL of a container that no record tells of. Its primary network may have
// been attached before multus-shim was installed, or the state directory was lost: what the
// configuration names is detached. Plugins allow a DEL of what is not there.
func (c *call) delUnrecorded(ctx context.Context) error {
	if others, err := c.attachedOtherwise(); err != nil || len(others) > 0 {
		c.log.Warn("nothing is recorded for this interface of the container, nothing was detached", "ifname", c.IfName, "recorded", others)
		return err
	}
	c.log.Warn("nothing is recorded for the container, the default network of the configuration is detached", "ifname", c.IfName)
	if selected := c.conf.Annotations[annotation.Networks]; selected != "" {
		c.log.Warn("networks of the pod's annotation are not detached if they were attached: nothing tells how", "annotation", brief.Text(selected))
	}
	attachments, err := c.configuredAttachments(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range slices.Backward(attachments) {
		err := c.runner.Del(ctx, c.container(), a.Attachment, c.runtimeResult(a))
		if errors.Is(err, delegate.ErrUnable) && c.neverAdded() {
			c.log.Warn("what its ADD could not run needs no DEL", "network", a.Network, "err", err)
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("detach network %s, interface %s: %w", a.Network, a.Ifname, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return coded(types.ErrIOFailure, c.store.Remove(c.key())) // a killed first write may have left a file
}

// neverAdded reports whether the runtime says that no ADD of the container succeeded: from
// CNI 0.4.0 on it hands the result to DEL.
func (c *call) neverAdded() bool {
	ours := delegate.Attachment{CNIVersion: c.conf.CNIVersion}
	var stdin struct{ PrevResult json.RawMessage }
	return ours.AtLeast("0.4.0") && json.Unmarshal(c.StdinData, &stdin) == nil && stdin.PrevResult == nil
}

// attachedOtherwise are the records of a container of which an interface other than eth0
// is not recorded: that is none from before we were installed.
func (c *call) attachedOtherwise() ([]string, error) {
	if c.key() == c.ContainerID {
		return nil, nil
	}
	keys, err := c.store.Records(c.ContainerID)
	return keys, coded(types.ErrIOFailure, err)
}

// detach runs DEL for every attachment that may have been started, newest
// first. One that fails stays recorded, so that the next DEL tries it alone. The record
// is brought up to date after each: a DEL that is killed because networks take long finds
// the next one further, which begins with what was not tried.
func (c *call) detach(ctx context.Context, r *record.Record, netns string) error {
	left, err := c.detachEntries(ctx, r, netns, func(left []record.Entry) {
		if r.Unreadable != nil { // stays until all is done: more may be in it
			return
		}
		if err := c.store.Reduce(r, left); err != nil { // hinders nothing: the next DEL does more than it must
			c.log.Info("the record is not brought up to date", "err", err)
		}
	})
	if len(left) == 0 {
		return coded(types.ErrIOFailure, c.store.Remove(r.Key()))
	}
	r.Entries = left
	return errors.Join(err, c.store.Create(r))
}

// detachKnown detaches the readable part of what is recorded, nil for none. The
// sources stay as they are: what could not be read must not be forgotten.
func (c *call) detachKnown(ctx context.Context, r *record.Record, netns string) error {
	if r == nil {
		return nil
	}
	_, err := c.detachEntries(ctx, r, netns, func([]record.Entry) {})
	return err
}

// detachEntries detaches the entries of a record, the last one first, and returns those that
// failed, in their order. After each, while any are left, it calls tell with those: the failed
// ones first, so that the next DEL tries them last.
func (c *call) detachEntries(ctx context.Context, r *record.Record, netns string, tell func(left []record.Entry)) (failed []record.Entry, err error) {
	started := slices.Clone(r.Started())
	for i := range started {
		started[i].Added = true // it has to go either way
	}
	var errs []error
	for i, e := range slices.Backward(started) {
		if err := c.detachOne(ctx, r, netns, e); err != nil {
			errs = append(errs, fmt.Errorf("detach network %s, interface %s: %w", e.Network, e.Ifname, err))
			failed = slices.Insert(failed, 0, e)
		} else {
			c.log.Info("detached", "network", e.Network, "ifname", e.Ifname)
		}
		if i > 0 { // after the last, the caller knows
			tell(slices.Concat(failed, started[:i]))
		}
	}
	return failed, errors.Join(errs...)
}

func (c *call) detachOne(ctx context.Context, r *record.Record, netns string, e record.Entry) error {
	where := delegate.Container{ID: r.ContainerID, Netns: netns}
	a := e.Attachment
	a.Plugins = a.Plugins[:len(a.Plugins)-e.Unstarted]
	if err := c.runner.Del(ctx, where, a, e.Result); err != nil {
		return err
	}
	if e.DeviceInfo != "" {
		if err := deviceinfo.Remove(e.DeviceInfo); err != nil {
			return err
		}
	}
	if err := attached.Remove(c.attachedDir(), r.Pod.UID, r.ContainerID, []string{e.Ifname}); err != nil {
		return coded(types.ErrIOFailure, err)
	}
	return c.store.RemoveResult(where.ID, e.Attachment)
}
