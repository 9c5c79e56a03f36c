// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/sriovkit/sriovkit/sriov-cni/repair"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
)

// del takes back what an attachment has. It does not need the configuration to
// be valid, the namespace to exist, or any one state file to be there, and does
// all it can before it reports what it could not do: then the state stays, and
// the next DEL goes on.
func (c *call) del(ctx context.Context) error {
	who := repair.Claimant{Attachment: c.attachment(), NetNS: c.Netns}
	if a, err := c.conf.Device(); err == nil {
		who.Device = a.String()
	}
	return c.release(ctx, who, c.store.RecordPath(who.Attachment))
}

// release is DEL for one attachment, whose record is at recordPath.
func (c *call) release(ctx context.Context, who repair.Claimant, recordPath string) error {
	r := c.repairer()
	rec, err := r.LoadRecord(recordPath, who.Attachment)
	if err != nil {
		return err
	}
	device, found, err := r.Attribute(rec, who)
	if err != nil {
		return err
	}
	if found {
		if err := c.lock(ctx, device); err != nil {
			return err
		}
	}
	// Plugins such as dhcp give a lease back through the interface, so the VF is
	// taken back after that; no failure of theirs keeps it, and none that hangs.
	_, err = os.Lstat(recordPath)
	leaseErr := c.releaseLease(ctx, rec, who, !found && errors.Is(err, fs.ErrNotExist))
	if !found {
		slog.Info("no VF is known of this attachment")
	} else if err := c.takeBack(ctx, device, rec, who); err != nil {
		return errors.Join(err, leaseErr)
	}
	// The record tells the next DEL that the VF is done, and which IPAM is not.
	if leaseErr != nil && (rec.Sriovkit != nil || !found) {
		return leaseErr
	}
	return errors.Join(leaseErr, cnierr.IO(state.Remove(recordPath)))
}

// takeBack restores the VF that an attachment has, if it has it. The caller
// holds the VF's lock.
func (c *call) takeBack(ctx context.Context, device libsriov.Address, rec state.Record, who repair.Claimant) error {
	r := c.repairer()
	j, held, err := r.Held(device, rec, who)
	if err != nil {
		return err
	}
	if !held {
		return cnierr.IO(c.store.DropOutdated(device))
	}
	if err := r.Restore(ctx, j); err != nil {
		return err
	}
	// The journal goes after the marker, for it can stand without, and before
	// the record, which tells the next DEL that the VF is done.
	if err := state.Remove(c.store.MarkerPath(device), c.store.JournalPath(device)); err != nil {
		return cnierr.IO(err)
	}
	slog.Info("VF taken back", "pci", device)
	return nil
}
