package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/sriovkit/sriovkit/libsriov"
)

// claim settles that nobody has the VF and brings it back from whoever lost it.
// It returns the host name that the interface should have, if something else
// has that name at present.
func (p *Plugin) claim(ctx context.Context, a libsriov.Address, by attachment) (hostName string, err error) {
	s := p.store()
	path, err := s.marker(a)
	if err != nil {
		return "", &failure{Code: types.ErrIOFailure, Err: err}
	}
	var j journal
	err = s.loadJournal(a, path, &j)
	switch {
	case err == nil:
		ns, _, nsErr := j.NetNS.open()
		if nsErr == nil {
			ns.Close()
		}
		// A journal without marker is of an ADD that was killed: its lock is free.
		if path != "" && nsErr == nil {
			return "", inUse(a, j.NetNS.Path, j.Owner)
		}
	case errors.Is(err, fs.ErrNotExist):
		if path == "" {
			return "", nil
		}
		if err := p.markerHolds(a, path); err != nil {
			return "", err
		}
		err = errDamaged // whoever set the marker keeps no journal
	default:
		if !errors.Is(err, errDamaged) {
			return "", &failure{Code: types.ErrIOFailure, Err: err}
		}
	}
	recordPath := s.recordPath(j.Owner)
	if err != nil {
		if j, recordPath, err = p.fromRecords(a); err != nil {
			log(ctx).Warn("VF was left behind, and how it was before is not known", "pci", a, "err", err)
			return "", remove(s.markerPath(a), s.journalPath(a))
		}
	}
	log(ctx).Warn("VF was left behind, restoring it", "pci", a, "owner", j.Owner.ContainerID, "ownerIfname", j.Owner.IfName, "by", by.ContainerID)
	err = p.recoverVF(ctx, j)
	if nameTaken(err) && j.Link != nil {
		// The journal is about to be replaced; until then it must not look out of date.
		j.Committed = false
		if err := save(s.journalPath(a), j); err != nil {
			return "", err
		}
		return j.Link.Name, remove(s.markerPath(a), recordPath)
	}
	if err != nil {
		return "", busy(fmt.Errorf("VF %s of a former pod is not restored yet: %w", a, err), "see the message; the next try goes on from here")
	}
	return "", remove(s.markerPath(a), s.journalPath(a), recordPath)
}

// markerHolds is an error if a marker without a journal keeps the VF: if the
// namespace it names is there and the VF's interface is not back on the host.
func (p *Plugin) markerHolds(a libsriov.Address, path string) error {
	ns, _, err := namespace{Path: path}.open()
	if err != nil {
		return nil
	}
	ns.Close()
	if d, err := p.look(a); err != nil || d.Netdev != "" {
		return err
	}
	return inUse(a, path, attachment{})
}

func inUse(a libsriov.Address, path string, owner attachment) error {
	by := ""
	if owner.ContainerID != "" {
		by = ", interface " + owner.IfName + " of container " + owner.ContainerID
	}
	return busy(fmt.Errorf("pci address %s is already allocated, to namespace %s%s", a, path, by),
		"the former pod's DEL is outstanding; if that pod is gone for good, remove its network namespace")
}
