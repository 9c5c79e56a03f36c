// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
)

// Claim makes a VF free for a new pod: it fails if another pod still has the VF, and restores
// it if a former pod left it changed. hostName is set if the interface could not get its own
// name back because something else on the host has that now.
func (r Repairer) Claim(ctx context.Context, a libsriov.Address, by state.Attachment) (hostName string, err error) {
	s := r.Store
	j, recordPath, err := r.former(a)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case errors.Is(err, state.ErrDamaged):
		slog.Warn("VF was left behind, and how it was before is not known: it becomes what is safe", "pci", a, "err", err)
		j = r.guess(a, Claimant{})
	case err != nil:
		return "", err
	default:
		slog.Warn("VF was left behind, restoring it", "pci", a, "owner", j.Owner.ContainerID, "ownerIfname", j.Owner.IfName, "by", by.ContainerID)
	}
	files := []string{s.MarkerPath(a)}
	if recordPath != "" {
		files = append(files, recordPath)
	}
	err = r.Restore(ctx, j)
	if NameTaken(err) && j.Link != nil {
		// The journal is about to be replaced; until then it must not look out of date.
		j.Committed = false
		if err := state.Save(s.JournalPath(a), j); err != nil {
			return "", err
		}
		return j.Link.Name, cnierr.IO(state.Remove(files...))
	}
	if err != nil {
		return "", cnierr.Busy(fmt.Errorf("VF %s of a former pod is not restored yet: %w", a, err), "see the message; the next try goes on from here")
	}
	return "", cnierr.IO(state.Remove(append(files, s.JournalPath(a))...))
}

// former returns the journal of the pod that had a VF last, and the path of its record. The
// error is fs.ErrNotExist if no pod had it, and state.ErrDamaged if the journal cannot be
// read. It is another one, which names the pod, if a pod still has the VF.
func (r Repairer) former(a libsriov.Address) (j state.Journal, recordPath string, err error) {
	s := r.Store
	marker, err := s.Marker(a)
	if err != nil {
		return j, "", cnierr.IO(err)
	}
	j, err = s.LoadJournal(a, marker)
	switch {
	case err == nil:
		ns, _, nsErr := j.NetNS.Open()
		if nsErr == nil {
			ns.Close()
		}
		id, err := r.Host.Identify(a)
		if err != nil {
			return j, "", cnierr.IO(err)
		}
		// What a boot before had at that path has ended with it, whatever is there by now.
		ended := errors.Is(nsErr, state.ErrNoNamespace) || j.Identity.Boot != "" && j.Identity.Boot != id.Boot
		// A journal without marker is of an ADD that was killed: its lock is free.
		if marker != "" && !ended {
			return j, "", inUse(a, j.NetNS.Path, j.Owner)
		}
		return j, s.RecordPath(j.Owner), nil
	case errors.Is(err, fs.ErrNotExist):
		if marker == "" {
			return j, "", err
		}
		if err := r.markerHolds(a, marker); err != nil {
			return j, "", err
		}
	case !errors.Is(err, state.ErrDamaged):
		return j, "", cnierr.IO(err)
	case marker != "":
		if err := r.markerHolds(a, marker); err != nil {
			return j, "", err
		}
	}
	j, recordPath, err = r.fromRecords(a, marker)
	if err != nil {
		err = fmt.Errorf("%w: %w", state.ErrDamaged, err)
	}
	return j, recordPath, err
}

// fromRecords finds the record of whoever had a VF, by its device, and makes a
// journal of it.
func (r Repairer) fromRecords(a libsriov.Address, marker string) (state.Journal, string, error) {
	all, err := r.Store.Records()
	for _, f := range all {
		if f.Device == a.String() {
			j, err := r.journalOf(f.Record, f.Owner, marker)
			return j, f.Path, err
		}
	}
	return state.Journal{}, "", errors.Join(fmt.Errorf("no record of %s", a), err)
}

// markerHolds is an error if a marker without a journal keeps the VF: if the
// namespace it names is there and the VF's interface is not back on the host.
func (r Repairer) markerHolds(a libsriov.Address, path string) error {
	ns, _, err := state.Namespace{Path: path}.Open()
	if errors.Is(err, state.ErrNoNamespace) {
		return nil
	}
	if err == nil {
		ns.Close()
	}
	if d, err := r.Host.Look(a); err != nil || d.Netdev != "" {
		return err
	}
	return inUse(a, path, state.Attachment{})
}

func inUse(a libsriov.Address, path string, owner state.Attachment) error {
	by := ""
	if owner.ContainerID != "" {
		by = ", interface " + owner.IfName + " of container " + owner.ContainerID
	}
	return cnierr.Busy(fmt.Errorf("pci address %s is already allocated, to namespace %s%s", a, path, by),
		"the former pod's DEL is outstanding; if that pod is gone for good, remove its network namespace")
}
