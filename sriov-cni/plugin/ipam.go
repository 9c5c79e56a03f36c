// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"log/slog"

	"github.com/sriovkit/sriovkit/sriov-cni/attach"
	"github.com/sriovkit/sriovkit/sriov-cni/internal/delegate"
	"github.com/sriovkit/sriovkit/sriov-cni/repair"
	"github.com/sriovkit/sriovkit/sriov-cni/request"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
)

// namesFiles is the error with which ADD refuses what the configuration names of the node
// to an IPAM plugin; nil if the plugin may be run.
func (c *call) namesFiles(ipam string) error {
	r := request.Request{Conf: c.conf, Stdin: c.StdinData}
	r.Conf.IPAM.Type = ipam
	return r.NamesFiles(c.files())
}

// files are those of the node that networks may name.
func (c *call) files() request.Files {
	return request.Files{Extra: c.host.Node.IPAMPaths, State: c.StateDir, Real: c.host.Real}
}

// releaseLease has the IPAM plugin release what an attachment has. A configuration that ADD
// refuses may be one that it took before an upgrade, or before the administrator allowed
// less, and then the record says that this IPAM plugin leased. Without that there is no
// lease, and the plugin is not run. unknown is an attachment of which there is no record and
// no VF: then a plugin that is not there has leased nothing.
func (c *call) releaseLease(ctx context.Context, rec state.Record, who repair.Claimant, unknown bool) error {
	ipam := c.conf.IPAM.Type
	if ipam == "" {
		ipam = rec.IPAM.Type
	}
	if err := c.namesFiles(ipam); err != nil && rec.IPAM.Type != ipam {
		slog.Warn("IPAM plugin not run, for ADD refuses its files and no record tells of a lease", "ipam", ipam, "err", err)
		return nil
	}
	err := attach.Release(ctx, ipam, c.StdinData, who.Attachment, who.NetNS)
	if unknown && errors.As(err, new(delegate.NotFoundError)) {
		slog.Warn("IPAM plugin not run, and nothing is known of this attachment", "err", err)
		return nil
	}
	return err
}
