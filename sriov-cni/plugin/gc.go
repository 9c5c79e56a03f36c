// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/sriovkit/sriovkit/sriov-cni/attach"
	"github.com/sriovkit/sriovkit/sriov-cni/internal/delegate"
	"github.com/sriovkit/sriovkit/sriov-cni/repair"
	"github.com/sriovkit/sriovkit/sriov-cni/request"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
)

// gc releases each attachment of this network that the runtime does not list as valid.
// Attachments of other networks are left alone: the runtime lists only this one's.
func (c *call) gc(ctx context.Context) error {
	valid, err := request.Valid(c.StdinData)
	if err != nil {
		return err
	}
	stale, err := c.stale(valid)
	errs := []error{err}
	for _, s := range stale {
		slog.Info("collecting attachment", "owner", s.who.ContainerID, "ownerIfname", s.who.IfName)
		errs = append(errs, c.release(ctx, s.who, s.recordPath))
	}
	return errors.Join(append(errs, c.gcLeases(ctx))...)
}

// gcLeases delegates GC to the IPAM plugin.
func (c *call) gcLeases(ctx context.Context) error {
	ipam := c.conf.IPAM.Type
	if ipam == "" {
		return nil
	}
	if err := c.namesFiles(ipam); err != nil {
		slog.Warn("IPAM plugin not run, for ADD refuses its files", "ipam", ipam, "err", err)
		return nil
	}
	if _, err := delegate.Run(ctx, ipam, "GC", c.StdinData); err != nil && !lacksCommand(err) {
		return attach.IPAMError("GC", ipam, err)
	}
	return nil
}

// stale is an attachment that is to be released.
type stale struct {
	device     string // sort key: calls that take several locks take them in the same order
	who        repair.Claimant
	recordPath string
}

// stale lists the attachments of this network that are not valid.
func (c *call) stale(valid []types.GCAttachment) ([]stale, error) {
	kept := map[state.Attachment]bool{} // valid, or listed already
	for _, a := range valid {
		kept[state.Attachment{ContainerID: a.ContainerID, IfName: a.IfName}] = true
	}
	var all []stale
	devices, err := c.store.Devices("vf")
	errs := []error{err}
	for _, device := range devices {
		j, err := c.store.Journal(device)
		if err != nil {
			if errors.Is(err, state.ErrDamaged) {
				slog.Warn("journal is damaged; the next ADD or DEL of its VF deals with it", "pci", device, "err", err)
			}
			errs = append(errs, state.Undecided(err))
			continue
		}
		if j.Network == c.conf.Name && !kept[j.Owner] {
			kept[j.Owner] = true
			all = append(all, stale{device.String(), repair.Claimant{Attachment: j.Owner, NetNS: j.NetNS.Path}, c.store.RecordPath(j.Owner)})
		}
	}
	records, err := c.store.Records()
	for _, f := range records {
		if f.Name == c.conf.Name && !kept[f.Owner] {
			all = append(all, stale{f.Device, repair.Claimant{Attachment: f.Owner}, f.Path})
		}
	}
	slices.SortFunc(all, func(a, b stale) int { return strings.Compare(a.device, b.device) })
	return all, errors.Join(append(errs, err)...)
}

// lacksCommand reports whether the error is that of a plugin that does not implement the
// command: GC and STATUS came with version 1.1.0 of the specification.
func lacksCommand(err error) bool {
	var e *types.Error
	return errors.As(err, &e) && slices.Contains([]uint{types.ErrIncompatibleCNIVersion, types.ErrInvalidEnvironmentVariables}, e.Code)
}
