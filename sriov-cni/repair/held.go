// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/sriovkit/sriovkit/sriov-cni/internal/file"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
)

// Claimant is an attachment as a runtime names it in a call, with all that it
// says about where the VF may be.
type Claimant struct {
	state.Attachment
	NetNS  string // CNI_NETNS; may be "" or outdated
	Device string // deviceID of the configuration; may be ""
}

// Attribute finds out which VF an attachment has: from its record or, if that is
// lost, from the journals, from the markers, or from the pod itself.
func (r Repairer) Attribute(rec state.Record, c Claimant) (libsriov.Address, bool) {
	s := r.Store
	owned := func(a libsriov.Address) bool {
		j, err := s.Journal(a)
		return err == nil && j.Owner == c.Attachment
	}
	recorded, err := libsriov.ParseAddress(rec.Device)
	isRecorded := err == nil
	if isRecorded && owned(recorded) {
		return recorded, true
	}
	journals, _ := s.Devices("vf")
	if i := slices.IndexFunc(journals, owned); i >= 0 {
		return journals[i], true
	}
	named, err := libsriov.ParseAddress(c.Device)
	isNamed := err == nil
	switch {
	case isRecorded && (!isNamed || named == recorded):
		return recorded, true
	case isNamed && r.hasInPod(c, named):
		return named, true
	case isRecorded:
		return recorded, true
	case c.NetNS == "":
		return libsriov.Address{}, false
	}
	markers, _ := s.Devices("pci")
	for _, a := range markers {
		path, err := s.Marker(a)
		if err == nil && path == c.NetNS && !state.Exists(s.JournalPath(a)) {
			return a, true
		}
	}
	return libsriov.Address{}, false
}

// hasInPod reports whether the interface that the runtime names is a VF's: proof
// enough that the pod has the VF, whatever is left of the files. On the host's own
// namespace it is none.
func (r Repairer) hasInPod(c Claimant, a libsriov.Address) bool {
	ns, _, err := state.Namespace{Path: c.NetNS}.Open()
	if err != nil {
		return false
	}
	defer ns.Close()
	if file.Same(ns, r.Host.NetNSPath()) {
		return false
	}
	pod, err := link.Open(ns)
	if err != nil {
		return false
	}
	defer pod.Close()
	l, err := pod.ByName(c.IfName)
	return err == nil && l.BelongsTo(a)
}

// Held reports, under the lock, whether the attachment still has the VF, and how
// to bring it back. Nobody else's VF is ever touched.
func (r Repairer) Held(a libsriov.Address, rec state.Record, c Claimant) (j state.Journal, held bool, err error) {
	marker, err := r.Store.Marker(a)
	if err != nil {
		return j, false, cnierr.IO(err)
	}
	if rec.Device != a.String() { // damaged, or no record at all
		rec = state.Record{}
	}
	// Without record and marker the journal looks like what the other plugin's DEL
	// leaves. But the pod has the VF: both were lost.
	if marker == "" && rec.Device == "" {
		if j, err = r.Store.Journal(a); err == nil && j.Owner == c.Attachment && r.hasInPod(c, a) {
			return j, true, nil
		}
	}
	j, err = r.Store.LoadJournal(a, marker)
	switch {
	case err == nil:
		return j, j.Owner == c.Attachment, nil
	case errors.Is(err, state.ErrDamaged):
		// Only the record is left to go by; one of ours has all but the flags.
	case !errors.Is(err, fs.ErrNotExist):
		return j, false, cnierr.IO(err)
	case rec.Sriovkit != nil:
		// DEL removes marker, journal, record. Without the first two it was done,
		// unless the pod has the VF all the same: then both were lost.
		switch {
		case marker == c.NetNS && marker != "" || r.hasInPod(c, a):
		case marker != "" && c.NetNS == "" && r.onlyRecord(a, c.Attachment):
			c.NetNS = marker
		default:
			return j, false, nil
		}
	default:
		switch {
		case marker == "" || marker == c.NetNS:
		case c.NetNS == "" && r.onlyRecord(a, c.Attachment): // the runtime has lost the path; the marker has not
			c.NetNS = marker
		case r.markerHolds(a, marker) != nil:
			return j, false, nil
		}
	}
	if rec.Device == "" {
		return r.guess(a, c), marker != "" && marker == c.NetNS || r.hasInPod(c, a), nil
	}
	j, err = rec.Journal(c.Attachment, c.NetNS)
	return r.withPF(j), err == nil, cnierr.IO(err)
}

// guess is the journal of a VF of which no file tells how it was: its interface
// is to come back, under a name of the kernel's choice, and what the pod may have
// had of its PF's is to be what is safe.
func (r Repairer) guess(a libsriov.Address, c Claimant) state.Journal {
	safe := vfstate.State{VLAN: &vfstate.VLAN{}, Trust: vfstate.Off, SpoofCheck: vfstate.On}
	return r.withPF(state.Journal{
		Version: state.Version, Owner: c.Attachment, Device: a, NetNS: state.Namespace{Path: c.NetNS}, Guessed: true,
		Link: &state.Link{Parent: a.String(), Name: "eth%d"}, Before: safe, Want: safe,
	})
}

// withPF completes a journal made from a record, which knows the PF by name.
func (r Repairer) withPF(j state.Journal) state.Journal {
	j.PF, j.VFIndex = r.Host.PFOf(j.Device)
	return j
}

// onlyRecord reports that no other attachment's record names the device.
func (r Repairer) onlyRecord(a libsriov.Address, own state.Attachment) bool {
	all, err := r.Store.Records()
	for _, f := range all {
		if f.Owner != own && f.Device == a.String() {
			return false
		}
	}
	return err == nil
}

// LoadRecord reads an attachment's record. One that is not there, is damaged, or
// is another attachment's is empty.
func (r Repairer) LoadRecord(path string, own state.Attachment) (rec state.Record, err error) {
	rec, err = r.Store.Record(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, state.ErrDamaged) {
		return rec, cnierr.IO(fmt.Errorf("record of %s %s: %w", own.ContainerID, own.IfName, err))
	}
	if m := rec.Sriovkit; err != nil || m != nil && m.Owner != (state.Attachment{}) && m.Owner != own {
		return state.Record{}, nil
	}
	return rec, nil
}
