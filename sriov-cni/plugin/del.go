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

// del restores the VF of an attachment and releases its addresses. It works with an
// invalid configuration, without the network namespace, and without any one of the
// state files. It does all it can before it returns an error; the state is then kept
// for the next DEL.
func (c *call) del(ctx context.Context) error {
	who := repair.Claimant{Attachment: c.attachment(), NetNS: c.Netns}
	if a, err := c.conf.Device(); err == nil {
		who.Device = a.String()
	}
	return c.release(ctx, who, c.store.RecordPath(who.Attachment))
}

// release is DEL for an attachment whose record is at recordPath; GC calls it, too.
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
	// The lease first, because plugins such as dhcp release it through the interface.
	// The VF is restored even if the IPAM plugin fails or hangs.
	_, err = os.Lstat(recordPath)
	leaseErr := c.releaseLease(ctx, rec, who, !found && errors.Is(err, fs.ErrNotExist))
	if !found {
		slog.Info("no VF is known of this attachment")
	} else if err := c.takeBack(ctx, device, rec, who); err != nil {
		return errors.Join(err, leaseErr)
	}
	// The record stays: it tells the next DEL which IPAM plugin has yet to release.
	if leaseErr != nil && (rec.Sriovkit != nil || !found) {
		return leaseErr
	}
	return errors.Join(leaseErr, cnierr.IO(state.Remove(recordPath)))
}

// takeBack restores the VF, unless it belongs to another attachment by now. The
// caller holds the VF's lock.
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
	// The order matters for a kill in between: a journal without a marker is enough to
	// go on from, and a record without a journal says that the VF has been restored.
	if err := state.Remove(c.store.MarkerPath(device), c.store.JournalPath(device)); err != nil {
		return cnierr.IO(err)
	}
	slog.Info("VF taken back", "pci", device)
	return nil
}
