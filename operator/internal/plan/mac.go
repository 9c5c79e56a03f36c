// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"crypto/sha256"
	"encoding/binary"
	"net"
	"slices"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// macSteps give an Ethernet VF in a group an administrative MAC, if its PF says that it
// has none. With one it has the same address after each reset and each change of its
// driver, so that static ARP entries, DHCP reservations and port security hold; and an
// untrusted VF cannot choose another on NICs that enforce it. One that has an
// administrative MAC keeps it: a CNI plugin may have set it for a pod.
//
// A VF that is there already gets its own address. One that is made here gets an address
// that follows from the PF's own and the VF's index, so that it is the same after a reboot.
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
	if user { // whoever has it then reads the address once
		return append([]Step{s}, then...)
	}
	at := slices.IndexFunc(then, func(s Step) bool { return s.Op == OpVDPA || s.Op == OpVFMTU })
	if at < 0 {
		at = len(then)
	}
	return slices.Insert(then, at, s)
}

// derivedMAC makes an address of the locally administered kind for a VF; "" if the PF's
// own is not known.
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
