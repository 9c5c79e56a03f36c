// SPDX-License-Identifier: Apache-2.0

// Package repair finds out who has a VF, and brings it back to how it was from whatever it
// finds. A failed ADD, DEL, GC and the ADD of the next pod all do so by one routine: a pure
// plan of what is left to do, and its execution.
//
// Home is the host's network namespace, from which ADD took the interface.
package repair

import (
	"net"
	"slices"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
)

// situation is what there is of a VF when it is to be brought back.
type situation struct {
	Have      vfstate.State // what the PF enforces
	Link      *link.Link    // the interface, wherever it is; nil: none found
	AtHome    bool          // the interface is in the host's namespace
	Userspace bool          // bound to a driver without interfaces, or to none
}

// repair is what is left to do. The zero value is nothing.
type repair struct {
	Admin vfstate.State // to write through the PF, before the interface moves

	// VerifyMAC: the PF was told to let the VF choose its MAC, and it is to be
	// seen whether the VF's choice is what the PF reports now.
	VerifyMAC bool

	Move   bool        // to the host's namespace
	Index  int         // to have there; 0 is any
	Update link.Update // on the interface, along with the move
	// Alternative names to take away before Update, and to give after it.
	DropAltNames, AddAltNames []string

	DetachXDP bool // take away programs that were attached meanwhile

	// Lost: there should be an interface, and it is in no namespace in sight.
	Lost bool
}

// planRepair decides how to get from a situation to how a journal says the VF
// was. It looks only at what is, not at how far ADD or DEL got, so it is right
// wherever either was killed, and plans nothing for a VF that is back already.
func planRepair(j state.Journal, s situation) repair {
	var r repair
	if j.PF != nil {
		r.Admin = vfstate.Diff(s.Have, undoing(j))
	}
	was := j.Link
	switch {
	case was == nil || s.Userspace:
		return r
	case s.Link == nil:
		r.Lost = true
		return r
	}
	is := state.LinkOf(*s.Link)
	// Where PF and VF agreed on the MAC, and the VF did not refuse another, it
	// was the VF's own choice: igb reports it like one that the PF set. Setting
	// it through the PF would look the same, but from then on the VF may not
	// choose. So the PF lets go, and the VF chooses as it did.
	if r.Admin.MAC != nil && slices.Equal(j.Before.MAC, net.HardwareAddr(was.MAC)) && !j.MACLocked && !slices.Equal(is.MAC, was.MAC) {
		r.Admin.MAC, r.VerifyMAC = make(net.HardwareAddr, len(was.MAC)), true
		if slices.Equal(r.Admin.MAC, s.Have.MAC) {
			r.Admin.MAC = nil
		}
	}
	r.Move, r.Index = !s.AtHome, was.Index
	if is.Name != was.Name && (!j.Guessed || !s.AtHome) { // a name of the kernel's choice it has by then
		r.Update.Name = was.Name
	}
	if !slices.Equal(is.MAC, was.MAC) && len(was.MAC) > 0 {
		r.Update.MAC = net.HardwareAddr(was.MAC)
	}
	if is.MTU != was.MTU && was.MTU != 0 {
		r.Update.MTU = was.MTU
	}
	up := is.Up
	if r.Move { // it arrives down
		up = new(false)
	}
	r.Update.Up = restored(up, was.Up)
	r.Update.Promisc = restored(is.Promisc, was.Promisc)
	r.Update.AllMulti = restored(is.AllMulti, was.AllMulti)
	r.Update.NoARP = restored(is.NoARP, was.NoARP)
	r.Update.Multicast = restored(is.Multicast, was.Multicast)
	r.Update.Dormant = restored(is.Dormant, was.Dormant)
	if len(was.Broadcast) > 0 && !slices.Equal(is.Broadcast, was.Broadcast) {
		r.Update.Broadcast = net.HardwareAddr(was.Broadcast)
	}
	r.Update.Alias = restored(is.Alias, was.Alias)
	r.Update.TxQLen = restored(is.TxQLen, was.TxQLen)
	r.Update.Group = restored(is.Group, was.Group)
	r.DetachXDP = is.XDP && !was.XDP
	r.DropAltNames, r.AddAltNames = altNames(is, was)
	return r
}

// altNames are the alternative names to take away and to give.
func altNames(is, was *state.Link) (drop, add []string) {
	if was.AltNames == nil { // not known, but its own name cannot be one
		if slices.Contains(is.AltNames, was.Name) {
			drop = []string{was.Name}
		}
		return drop, nil
	}
	for _, name := range is.AltNames {
		if !slices.Contains(was.AltNames, name) {
			drop = append(drop, name)
		}
	}
	for _, name := range was.AltNames {
		if !slices.Contains(is.AltNames, name) {
			add = append(add, name)
		}
	}
	return drop, add
}

// restored is was, unless it is not known or is so.
func restored[T comparable](is, was *T) *T {
	if was == nil || is != nil && *is == *was {
		return nil
	}
	return new(*was)
}

// undoing is the part of the former state that ADD changes. The MAC is always
// of it: a pod that may configure its interface changes it unasked.
func undoing(j state.Journal) vfstate.State {
	changed := j.Want
	changed.MAC = j.Before.MAC
	return j.Before.Restrict(changed)
}
