package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/multus-shim/delegate"
	"github.com/sriovkit/sriovkit/multus-shim/plan"
)

// status says whether an ADD could succeed now: our own prerequisites, and the
// default network's plugins, whose error codes pass through.
func status(ctx context.Context, c *call) error {
	ctx, cancel := context.WithTimeout(ctx, c.conf.Timeout.API)
	defer cancel()
	if err := c.prerequisites(ctx); err != nil {
		return coded(errUnavailable, err)
	}
	wants, err := c.defaultNetwork(&pod{})
	if err != nil {
		return coded(errUnavailable, err)
	}
	networks, err := c.load(ctx, wants)
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
	client, err := c.api()
	switch {
	case err != nil:
		return err
	case !c.conf.Policy.STATUSAsksAPI:
		return nil
	case client == nil:
		return errors.New("statusRequiresAPI: no API server is configured")
	}
	return client.Ready(ctx)
}

// inlineDefault are the default networks that are known without asking the API
// server.
func (c *call) inlineDefault() []delegate.Attachment {
	wants, err := c.defaultNetwork(&pod{})
	if err != nil {
		c.log.Warn("default network left out", "err", err)
		return nil
	}
	var out []delegate.Attachment
	for _, w := range wants {
		if !w.load {
			out = append(out, bare(w.network))
		}
	}
	return out
}

// bare is a network that is attached to nothing.
func bare(n plan.Network) delegate.Attachment {
	a := delegate.Attachment{
		Network: n.Label(), Name: n.Config.Name, CNIVersion: n.Config.CNIVersion, DisableGC: n.Config.DisableGC,
	}
	for _, p := range n.Config.Plugins {
		a.Plugins = append(a.Plugins, p.JSON.Bytes())
	}
	return a
}
