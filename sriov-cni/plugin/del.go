package plugin

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/sriovkit/sriovkit/libsriov"
)

// del takes back what an attachment has. It does not need the configuration to
// be valid, the namespace to exist, or any one state file to be there, and does
// all it can before it reports what it could not do: then the state stays, and
// the next DEL goes on.
func (p *Plugin) del(ctx context.Context, args *skel.CmdArgs, c conf) error {
	a := attachment{ContainerID: args.ContainerID, IfName: args.IfName}
	return p.release(ctx, a, p.store().recordPath(a), args, c)
}

// release is DEL for one attachment, whose record is at recordPath.
func (p *Plugin) release(ctx context.Context, a attachment, recordPath string, args *skel.CmdArgs, c conf) error {
	var r record
	err := load(recordPath, &r)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errDamaged) {
		return &failure{Code: types.ErrIOFailure, Err: err}
	}
	ipam := c.IPAM.Type
	if ipam == "" {
		ipam = r.IPAM.Type
	}
	device, found := p.attribute(r, a, args.Netns)
	if found {
		if err := p.lock(ctx, device); err != nil {
			return err
		}
	}
	// While the lock is held nobody else gets the VF, so the addresses may go
	// before it or after it, and neither's failure keeps the other.
	lease := startDelIPAM(ctx, ipam, args.StdinData, a, args.Netns)
	if !found {
		log(ctx).Info("no VF is known of this attachment")
		leaseErr := <-lease
		return errors.Join(leaseErr, removeIf(leaseErr == nil, recordPath))
	}
	err = p.takeBack(ctx, device, r, a, args.Netns)
	leaseErr := <-lease
	if err != nil {
		return errors.Join(err, leaseErr)
	}
	return errors.Join(leaseErr, removeIf(leaseErr == nil || r.Sriovkit == nil, recordPath))
}

// takeBack restores the VF that an attachment has, if it has it. The caller
// holds the VF's lock.
func (p *Plugin) takeBack(ctx context.Context, device libsriov.Address, r record, a attachment, netns string) error {
	s := p.store()
	if err := s.dropOutdated(device); err != nil {
		return &failure{Code: types.ErrIOFailure, Err: err}
	}
	j, held, err := p.held(device, r, a, netns)
	if err != nil || !held {
		return err
	}
	if err := p.recoverVF(ctx, j); err != nil {
		return err
	}
	// The journal goes after the marker, for it can stand without, and before
	// the record, which tells the next DEL that the VF is done.
	if err := remove(s.markerPath(device), s.journalPath(device)); err != nil {
		return &failure{Code: types.ErrIOFailure, Err: err}
	}
	log(ctx).Info("VF taken back", "pci", device)
	return nil
}

func removeIf(condition bool, path string) error {
	if !condition {
		return nil
	}
	if err := remove(path); err != nil {
		return &failure{Code: types.ErrIOFailure, Err: err}
	}
	return nil
}

// attribute finds out which VF an attachment has: from its record or, if that
// is lost, from the journals or from the markers.
func (p *Plugin) attribute(r record, a attachment, netns string) (libsriov.Address, bool) {
	if device, err := libsriov.ParseAddress(r.Device); err == nil {
		return device, true
	}
	s := p.store()
	journals, _ := s.devices("vf")
	for _, device := range journals {
		var j journal
		if load(s.journalPath(device), &j) == nil && j.Owner == a {
			return device, true
		}
	}
	if netns == "" {
		return libsriov.Address{}, false
	}
	markers, _ := s.devices("pci")
	for _, device := range markers {
		path, err := s.marker(device)
		if err == nil && path == netns && !exists(s.journalPath(device)) {
			return device, true
		}
	}
	return libsriov.Address{}, false
}

// held tells, under the lock, whether the attachment still has the VF, and how
// to bring it back. Nobody else's VF is ever touched.
func (p *Plugin) held(device libsriov.Address, r record, a attachment, netns string) (j journal, held bool, err error) {
	s := p.store()
	path, err := s.marker(device)
	if err != nil {
		return j, false, &failure{Code: types.ErrIOFailure, Err: err}
	}
	err = s.loadJournal(device, path, &j)
	switch {
	case err == nil:
		return j, j.Owner == a, nil
	case errors.Is(err, errDamaged):
		// Only the record is left to go by; one of ours has all but the flags.
	case !errors.Is(err, fs.ErrNotExist):
		return j, false, &failure{Code: types.ErrIOFailure, Err: err}
	case r.Sriovkit != nil:
		return j, false, nil // restored by an earlier DEL
	default:
		switch {
		case path == "" || path == netns:
		case netns == "" && p.onlyRecord(device, a): // the runtime has lost the path; the marker has not
			netns = path
		case p.markerHolds(device, path) != nil:
			return j, false, nil
		}
	}
	if r.Device == "" {
		return p.bare(device, a, netns), path != "" && path == netns, nil
	}
	j, err = r.journal(a, netns)
	if err != nil {
		return j, false, &failure{Code: types.ErrIOFailure, Err: err}
	}
	return p.withPF(j), true, nil
}

// bare is the journal of a VF of which only the marker is left: all that can be
// done is to bring its interface back from the pod. Its former name is unknown;
// the kernel numbers it.
func (p *Plugin) bare(device libsriov.Address, a attachment, netns string) journal {
	return journal{
		Version: journalVersion, Owner: a, Device: device, NetNS: namespace{Path: netns},
		Link: &linkState{Parent: device.String(), Name: "eth%d"},
	}
}

// withPF completes a journal made from a record, which knows the PF by name.
func (p *Plugin) withPF(j journal) journal {
	if vf, err := p.host.VF(j.Device); err == nil {
		j.PF, j.VFIndex = &vf.PF, vf.Index
	}
	return j
}

// fromRecords finds the record of whoever had a VF, by its device, and makes a
// journal of it.
func (p *Plugin) fromRecords(device libsriov.Address) (journal, string, error) {
	s := p.store()
	names, err := s.records()
	if err != nil {
		return journal{}, "", err
	}
	for _, name := range names {
		var r record
		path := filepath.Join(s.dir, name)
		if load(path, &r) != nil || r.Device != device.String() {
			continue
		}
		netns, err := s.marker(device)
		if err != nil {
			return journal{}, "", err
		}
		j, err := r.journal(splitRecordName(name), netns)
		return p.withPF(j), path, err
	}
	return journal{}, "", fmt.Errorf("record of %s: %w", device, fs.ErrNotExist)
}

// onlyRecord tells that no other attachment's record names the device.
func (p *Plugin) onlyRecord(device libsriov.Address, a attachment) bool {
	s := p.store()
	own := filepath.Base(s.recordPath(a))
	names, err := s.records()
	for _, name := range names {
		var r record
		if name != own && load(filepath.Join(s.dir, name), &r) == nil && r.Device == device.String() {
			return false
		}
	}
	return err == nil
}

// splitRecordName takes "<containerID>-<ifname>" apart. Either may hold dashes,
// but the IDs that container runtimes make are hexadecimal.
func splitRecordName(name string) attachment {
	id, ifname, _ := strings.Cut(name, "-")
	if _, err := hex.DecodeString(id); err != nil {
		i := strings.LastIndexByte(name, '-')
		id, ifname = name[:max(i, 0)], name[i+1:]
	}
	return attachment{ContainerID: id, IfName: ifname}
}
