package plugin

import (
	"net"
	"slices"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
)

// situation is what there is of a VF when it is to be brought back.
type situation struct {
	Gone      bool          // no such PCI function, or another one at its address
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

	// Lost: there should be an interface, and it is in no namespace in sight.
	Lost bool
}

// planRepair decides how to get from a situation to how a journal says the VF
// was. It looks only at what is, not at how far ADD or DEL got, so it is right
// wherever either was killed, and plans nothing for a VF that is back already.
func planRepair(j journal, s situation) repair {
	var r repair
	if s.Gone {
		return r
	}
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
	is := linkStateOf(*s.Link)
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
	if is.Name != was.Name {
		r.Update.Name = was.Name
	}
	if !slices.Equal(is.MAC, was.MAC) && len(was.MAC) > 0 {
		r.Update.MAC = net.HardwareAddr(was.MAC)
	}
	if is.MTU != was.MTU && was.MTU != 0 {
		r.Update.MTU = was.MTU
	}
	r.Update.Promisc = restored(is.Promisc, was.Promisc)
	r.Update.AllMulti = restored(is.AllMulti, was.AllMulti)
	// An interface arrives down from a move.
	up := is.Up
	if r.Move {
		up = new(false)
	}
	r.Update.Up = restored(up, was.Up)
	if was.AltNames != nil {
		for _, name := range is.AltNames {
			if !slices.Contains(was.AltNames, name) {
				r.DropAltNames = append(r.DropAltNames, name)
			}
		}
		for _, name := range was.AltNames {
			if !slices.Contains(is.AltNames, name) {
				r.AddAltNames = append(r.AddAltNames, name)
			}
		}
	} else if slices.Contains(is.AltNames, was.Name) {
		r.DropAltNames = []string{was.Name}
	}
	return r
}

// restored is was, unless it is not known or is so.
func restored(is, was *bool) *bool {
	if was == nil || *is == *was {
		return nil
	}
	return new(*was)
}

// undoing is the part of the former state that ADD changes. The MAC is always
// of it: a pod that may configure its interface changes it unasked.
func undoing(j journal) vfstate.State {
	s := vfstate.State{MAC: j.Before.MAC}
	if j.Want.VLAN != nil {
		s.VLAN = j.Before.VLAN
	}
	if j.Want.Rate != nil {
		s.Rate = j.Before.Rate
	}
	if j.Want.SpoofCheck != vfstate.Unset {
		s.SpoofCheck = j.Before.SpoofCheck
	}
	if j.Want.Trust != vfstate.Unset {
		s.Trust = j.Before.Trust
	}
	if j.Want.LinkState != vfstate.LinkUnset {
		s.LinkState = j.Before.LinkState
	}
	return s
}

// isUserspace tells a driver that hands the function to a user-space program.
func isUserspace(driver string) bool {
	switch driver {
	case "vfio-pci", "uio_pci_generic", "igb_uio":
		return true
	}
	return false
}
