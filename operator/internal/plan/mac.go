// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"crypto/sha256"
	"encoding/binary"
	"net"
	"slices"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// macSteps adds to then the step that gives an Ethernet VF of a group an administrative
// MAC, unless it has one: a CNI plugin may have set that for a pod. With an administrative
// MAC the VF has the same address after each reset and each change of its driver, so that
// static ARP entries, DHCP reservations and port security hold. NICs that enforce it also
// keep an untrusted VF from choosing another address.
//
// An existing VF keeps its present address. A new VF gets an address derived from the PF's
// MAC and the VF's index, which is therefore the same after a reboot.
func macSteps(pf *v1.InterfaceExt, vf *v1.VirtualFunction, want v1.Interface, noMAC map[string]bool, then []Step) []Step {
	g, ok := GroupOf(want, vf.VfID)
	created := vf.PciAddress == ""
	if !ok || pf.LinkType != v1.LinkTypeETH || pf.Virtual() || !created && !noMAC[vf.PciAddress] {
		return then
	}
	binds := slices.ContainsFunc(then, func(s Step) bool { return s.Op == OpBind })
	user := g.DeviceType == v1.DeviceTypeVFIO
	if !created && !user && !binds && vf.Name == "" {
		return then // its netdev is in a pod
	}
	s := Step{Op: OpMAC, VF: vf.VfID, MAC: vf.Mac}
	if s.MAC == "" {
		if s.MAC = derivedMAC(pf.PermanentMac, vf.VfID); s.MAC == "" {
			return then
		}
	}
	if !created {
		s.Disturbs, s.Yields = []string{vf.PciAddress}, !binds
	}
	if user { // a user-space driver reads the address when it opens the VF: set it before the bind
		return append([]Step{s}, then...)
	}
	at := slices.IndexFunc(then, func(s Step) bool { return s.Op == OpVDPA || s.Op == OpVFMTU })
	if at < 0 {
		at = len(then)
	}
	return slices.Insert(then, at, s)
}

// derivedMAC returns a locally administered unicast address for a VF; "" if the PF's MAC
// is not known.
func derivedMAC(pf string, vf int) string {
	own, err := net.ParseMAC(pf)
	if err != nil || len(own) != 6 {
		return ""
	}
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(own, uint32(vf)))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^0x01 | 0x02
	return mac.String()
}
