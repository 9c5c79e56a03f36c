// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"context"
	"encoding/json"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/sriovkit/sriovkit/multus-shim/delegate"
	"github.com/sriovkit/sriovkit/multus-shim/nad"
	"github.com/sriovkit/sriovkit/multus-shim/plan"
)

// configured returns the networks that the configuration names for every pod, the
// default one first. The API server is asked only for one that is a NAD, and
// briefly; a file of that name does as well.
func (c *call) configured(ctx context.Context) ([]plan.Network, error) {
	wants, err := c.defaultNetwork(&pod{})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, min(c.conf.Timeout.API, courtesy))
	defer cancel()
	networks, err := c.load(ctx, wants)
	if name := c.conf.ClusterNetwork; err != nil && name != "" && !filepath.IsAbs(name) {
		if config, fileErr := nad.FromDir(c.conf.ConfDir, wants[0].network.Selection.Name); fileErr == nil {
			return []plan.Network{{Config: config}}, nil
		}
	}
	return networks, err
}

// configuredAttachments are the networks of the configuration as attachments of
// this command's container.
func (c *call) configuredAttachments(ctx context.Context) ([]plan.Attachment, error) {
	networks, err := c.configured(ctx)
	if err != nil {
		return nil, err
	}
	attachments, _, err := plan.Make(plan.Input{
		ContainerID: c.ContainerID, Ifname: c.IfName, Args: c.args, RuntimeConfig: c.conf.RuntimeConfig,
		Networks: networks, DeviceInfoDir: c.conf.DeviceInfoDir, Lenient: true, AnyDevice: true, AnyLength: true,
	})
	return attachments, err
}

// runtimeResult is what the runtime remembers of the container, which is the result
// of the default network, in the version of its configuration; nil for none.
func (c *call) runtimeResult(a plan.Attachment) json.RawMessage {
	var stdin struct{ PrevResult json.RawMessage }
	if !a.Default || json.Unmarshal(c.StdinData, &stdin) != nil || stdin.PrevResult == nil {
		return nil
	}
	var result struct{ CNIVersion string }
	if json.Unmarshal(stdin.PrevResult, &result) != nil {
		return nil
	}
	version := cmp.Or(result.CNIVersion, c.conf.CNIVersion)
	parsed, err := create.Create(version, stdin.PrevResult)
	if err != nil {
		return nil
	}
	converted, err := parsed.GetAsVersion(a.CNIVersion)
	if err != nil {
		return nil
	}
	out, err := json.Marshal(converted)
	if err != nil {
		return nil
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
