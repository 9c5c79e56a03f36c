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
	r, err := c.store.Find(c.ContainerID, c.IfName, c.args)
	if err != nil {
		return coded(types.ErrIOFailure, err)
	}
	if r == nil || r.Ifname != c.IfName {
		return coded(types.ErrUnknownContainer, fmt.Errorf("nothing is recorded for container %s, interface %s", c.ContainerID, c.IfName))
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
