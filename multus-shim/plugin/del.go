package plugin

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/sriovkit/sriovkit/multus-shim/delegate"
	"github.com/sriovkit/sriovkit/multus-shim/deviceinfo"
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
	r, err := c.store.Find(c.ContainerID, c.IfName, c.args)
	if err != nil {
		return coded(types.ErrIOFailure, fmt.Errorf(
			"what this container is attached to cannot be read; detach it by hand and remove the file: %w", err))
	}
	if r == nil || r.Ifname != c.IfName {
		c.log.Warn("nothing is recorded for the container, nothing was detached", "ifname", c.IfName)
		if r == nil { // a killed first write may have left a file
			return coded(types.ErrIOFailure, c.store.Remove(c.ContainerID))
		}
		return nil
	}
	return c.detach(ctx, r, c.Netns)
}

// detach runs DEL for every attachment that may have been started, newest
// first. One that fails stays recorded, so that the next DEL tries it alone.
func (c *call) detach(ctx context.Context, r *record.Record, netns string) error {
	where := delegate.Container{ID: r.ContainerID, Netns: netns}
	var left []record.Entry
	var errs []error
	for _, e := range slices.Backward(r.Started()) {
		if err := c.detachOne(ctx, where, e); err != nil {
			errs = append(errs, fmt.Errorf("detach network %s, interface %s: %w", e.Network, e.Ifname, err))
			e.Added = true // it has to go either way
			left = append(left, e)
			continue
		}
		c.log.Info("detached", "network", e.Network, "ifname", e.Ifname)
	}
	if len(left) == 0 {
		return coded(types.ErrIOFailure, c.store.Remove(r.ContainerID))
	}
	slices.Reverse(left)
	r.Entries = left
	return errors.Join(append(errs, c.store.Create(r))...)
}

func (c *call) detachOne(ctx context.Context, where delegate.Container, e record.Entry) error {
	if err := c.runner.Del(ctx, where, e.Attachment, e.Result); err != nil {
		return err
	}
	if e.DeviceInfo != "" {
		if err := deviceinfo.Remove(e.DeviceInfo); err != nil {
			return err
		}
	}
	return c.store.RemoveResult(where.ID, e.Attachment)
}
