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

// Attribute finds out which VF an attachment has: from its record or, if that is lost, from the
// journals, from the markers, or from the pod itself. If none of them names a VF and one could
// not be read, that is an error and not found == false.
func (r Repairer) Attribute(rec state.Record, c Claimant) (a libsriov.Address, found bool, err error) {
	var unread []error
	owned := func(a libsriov.Address) bool {
		j, err := r.Store.Journal(a)
		unread = append(unread, state.Undecided(err))
		return err == nil && j.Owner == c.Attachment
	}
	recorded, err := libsriov.ParseAddress(rec.Device)
	isRecorded := err == nil
	if isRecorded && owned(recorded) {
		return recorded, true, nil
	}
	journals, err := r.Store.Devices("vf")
	unread = append(unread, state.Undecided(err))
	if i := slices.IndexFunc(journals, owned); i >= 0 {
		return journals[i], true, nil
	}
	named, err := libsriov.ParseAddress(c.Device)
	isNamed := err == nil
	if isRecorded && (!isNamed || named == recorded) {
		return recorded, true, nil
	}
	if isNamed {
		has, err := r.hasInPod(c, named)
		if has {
			return named, true, nil
		}
		unread = append(unread, err)
	}
	if isRecorded {
		return recorded, true, nil
	}
	if c.NetNS != "" {
		markers, err := r.Store.Devices("pci")
		unread = append(unread, state.Undecided(err))
		for _, a := range markers {
			path, err := r.Store.Marker(a)
			unread = append(unread, state.Undecided(err))
			if err != nil || path != c.NetNS || state.Exists(r.Store.JournalPath(a)) {
				continue
			}
			mine, err := r.onlyRecord(a, c.Attachment) // the marker names no interface
			if mine {
				return a, true, nil
			}
			unread = append(unread, err)
		}
	}
	return libsriov.Address{}, false, cnierr.IO(errors.Join(unread...))
}

// hasInPod reports whether the interface that the runtime names is a VF's: proof
// enough that the pod has the VF, whatever is left of the files. On the host's own
// namespace it is none. An error leaves open whether it has.
func (r Repairer) hasInPod(c Claimant, a libsriov.Address) (bool, error) {
	ns, _, err := state.Namespace{Path: c.NetNS}.Open()
	if errors.Is(err, state.ErrNoNamespace) {
		return false, nil
	}
	if err != nil {
		return false, cnierr.IO(err)
	}
	defer ns.Close()
	if file.Same(ns, r.Host.NetNSPath()) {
		return false, nil
	}
	pod, err := link.Open(ns)
	if err != nil {
		return false, cnierr.IO(err)
	}
	defer pod.Close()
	l, err := pod.ByName(c.IfName)
	return err == nil && l.BelongsTo(a), cnierr.IO(state.Undecided(err))
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
		if j, err = r.Store.Journal(a); err == nil && j.Owner == c.Attachment {
			if inPod, err := r.hasInPod(c, a); inPod || err != nil {
				j.Identity = state.Identity{}
				return j, inPod, err
			}
		}
	}
	j, err = r.Store.LoadJournal(a, marker)
	switch {
	case err == nil && j.Owner == c.Attachment:
		return r.identified(j, c)
	case err == nil:
		return j, false, nil
	case errors.Is(err, state.ErrDamaged):
		// Only the record is left to go by; one of ours has all but the flags.
	case !errors.Is(err, fs.ErrNotExist):
		return j, false, cnierr.IO(err)
	case rec.Sriovkit != nil:
		// DEL removes marker, journal, record. Without the first two it was done,
		// unless the pod has the VF all the same: then both were lost.
		if marker == "" || marker != c.NetNS {
			if c.NetNS, err = r.stillHas(a, marker, c); c.NetNS == "" || err != nil {
				return j, false, err
			}
		}
	case marker != "" && marker != c.NetNS: // the other plugin's record
		mine := false
		if c.NetNS == "" {
			if mine, err = r.onlyRecord(a, c.Attachment); err != nil {
				return j, false, err
			}
		}
		switch {
		case mine:
			c.NetNS = marker
		case r.markerHolds(a, marker) != nil:
			return j, false, nil
		}
	}
	if rec.Device == "" {
		if marker != "" && marker == c.NetNS {
			return r.guess(a, c), true, nil
		}
		inPod, err := r.hasInPod(c, a)
		return r.guess(a, c), inPod, err
	}
	j, err = r.journalOf(rec, c.Attachment, c.NetNS)
	return j, err == nil, cnierr.IO(err)
}

// identified is an attachment's journal. One of another function that had the VF's address
// before is nothing to go by, unless the pod has the VF: then its identity alone is damaged.
func (r Repairer) identified(j state.Journal, c Claimant) (state.Journal, bool, error) {
	if id, err := r.Host.Identify(j.Device); err != nil || id == j.Identity {
		return j, true, nil // Restore looks again
	}
	inPod, err := r.hasInPod(c, j.Device)
	if inPod {
		j.Identity = state.Identity{}
	}
	return j, err == nil, err
}

// stillHas is the path of the namespace in which an attachment, of which there is a record
// but neither its journal nor a marker of that path, has the VF all the same; "" if it has not.
func (r Repairer) stillHas(a libsriov.Address, marker string, c Claimant) (netns string, err error) {
	if inPod, err := r.hasInPod(c, a); inPod || err != nil {
		return c.NetNS, err
	}
	if marker == "" || c.NetNS != "" {
		return "", nil
	}
	// The runtime has lost the path; the marker has not.
	if mine, err := r.onlyRecord(a, c.Attachment); !mine || err != nil {
		return "", err
	}
	return marker, nil
}

// guess is the journal of a VF of which no file tells how it was: its interface
// is to come back, under a name of the kernel's choice, and what the pod may have
// had of its PF's is to be what is safe.
func (r Repairer) guess(a libsriov.Address, c Claimant) state.Journal {
	safe := vfstate.State{VLAN: &vfstate.VLAN{}, Trust: vfstate.Off, SpoofCheck: vfstate.On}
	j := state.Journal{
		Version: state.Version, Owner: c.Attachment, Device: a, NetNS: state.Namespace{Path: c.NetNS}, Guessed: true,
		Link: state.OrdinaryLink(a, "eth%d"), Before: safe, Want: safe,
	}
	j.PF, j.VFIndex = r.Host.PFOf(a)
	return j
}

// journalOf makes a journal of a record, which names the PF's interface if ADD had anything to
// do with the PF.
func (r Repairer) journalOf(rec state.Record, owner state.Attachment, netns string) (state.Journal, error) {
	j, err := rec.Journal(owner, netns)
	if rec.PFName != "" {
		j.PF, j.VFIndex = r.Host.PFOf(j.Device)
	}
	return j, err
}

// onlyRecord reports that no other attachment's record names the device. An error leaves
// open whether one does.
func (r Repairer) onlyRecord(a libsriov.Address, own state.Attachment) (bool, error) {
	all, err := r.Store.Records()
	for _, f := range all {
		if f.Owner != own && f.Device == a.String() {
			return false, nil
		}
	}
	return err == nil, cnierr.IO(err)
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
