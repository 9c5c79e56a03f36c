// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"
)

// check runs CHECK of every attachment with the result its ADD gave.
func check(ctx context.Context, c *call) error {
	release, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer release()
	r, err := c.store.Find(c.key(), c.IfName, c.args)
	if err != nil {
		return coded(types.ErrIOFailure, err)
	}
	if r == nil {
		return c.checkUnrecorded(ctx)
	}
	var errs []error
	for _, e := range r.Entries {
		if !e.Added {
			errs = append(errs, fmt.Errorf("network %s, interface %s: its ADD did not finish", e.Network, e.Ifname))
			continue
		}
		if err := c.runner.Check(ctx, c.container(), e.Attachment, e.Result); err != nil {
			errs = append(errs, fmt.Errorf("network %s, interface %s: %w", e.Network, e.Ifname, err))
		}
	}
	return errors.Join(errs...)
}

// checkUnrecorded checks the default network of a container from before multus-shim was
// installed, with the result that the runtime remembers.
func (c *call) checkUnrecorded(ctx context.Context) error {
	if others, err := c.attachedOtherwise(); err != nil || len(others) > 0 {
		return errors.Join(err, coded(types.ErrUnknownContainer,
			fmt.Errorf("nothing is recorded for container %s, interface %s", c.ContainerID, c.IfName)))
	}
	attachments, err := c.configuredAttachments(ctx)
	if err != nil {
		return err
	}
	result := c.runtimeResult(attachments[0])
	if result == nil {
		return coded(types.ErrUnknownContainer,
			fmt.Errorf("nothing is recorded for container %s, interface %s, and the runtime passed no prevResult", c.ContainerID, c.IfName))
	}
	return c.runner.Check(ctx, c.container(), attachments[0].Attachment, result)
}
