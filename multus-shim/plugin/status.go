// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// status reports whether an ADD could succeed now: what multus-shim itself needs, and the
// default network's plugins, whose error codes pass through.
func status(ctx context.Context, c *call) error {
	ctx, cancel := context.WithTimeout(ctx, c.conf.Timeout.API)
	defer cancel()
	if err := c.prerequisites(ctx); err != nil {
		return coded(errUnavailable, err)
	}
	networks, err := c.configured(ctx)
	if err != nil {
		return coded(errUnavailable, err)
	}
	for _, n := range networks {
		if err := c.runner.Status(ctx, bare(n)); err != nil {
			return fmt.Errorf("network %s: %w", n.Label(), err)
		}
	}
	return nil
}

func (c *call) prerequisites(ctx context.Context) error {
	if path := c.conf.ReadinessFile; path != "" {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("readinessindicatorfile: the default network is not ready: %w", err)
		}
	}
	if err := os.MkdirAll(c.conf.CNIDir, 0o700); err != nil {
		return fmt.Errorf("cniDir: %w", err)
	}
	if err := unix.Access(c.conf.CNIDir, unix.W_OK); err != nil {
		return fmt.Errorf("cniDir %s: not writable: %w", c.conf.CNIDir, err)
	}
	if !c.conf.Policy.STATUSAsksAPI { // pods without further networks need neither server nor credentials
		return nil
	}
	client, err := c.api()
	switch {
	case err != nil:
		return err
	case client == nil:
		return errors.New("statusRequiresAPI: no API server is configured")
	}
	return client.Ready(ctx)
}
