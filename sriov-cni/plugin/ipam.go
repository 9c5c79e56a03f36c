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

// namesFiles returns an error if the configuration names files of the node to the IPAM plugin
// that networks may not name. ADD returns it; other commands then do not run the plugin.
func (c *call) namesFiles(ipam string) error {
	r := request.Request{Conf: c.conf, Stdin: c.StdinData}
	r.Conf.IPAM.Type = ipam
	return r.NamesFiles(c.files())
}

// files returns which files of the node networks may name.
func (c *call) files() request.Files {
	return request.Files{Extra: c.host.Node.IPAMPaths, State: c.StateDir, Real: c.host.Real}
}

// releaseLease delegates DEL to the IPAM plugin. If ADD would refuse the configuration, the
// plugin is run only if the record says that it has leased: that ADD may have been before an
// upgrade, or before the administrator allowed less. unknown says that the attachment has
// neither record nor VF; it is then no error that the plugin is not installed.
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
