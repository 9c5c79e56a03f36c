// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"net"
	"strings"
	"unicode"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"golang.org/x/sys/unix"
)

// Limits of what the kernel takes: of a value beyond them no VF can be brought back to.
const (
	maxMTU     = 1 << 16
	maxAltName = 127 // ALTIFNAMSIZ - 1
	maxAlias   = 255 // IFALIASZ - 1
	maxVLAN    = 4095
)

// sound is an error if a journal says what ADD cannot have written about a VF. A file
// that can be decoded may be damaged all the same, or be another VF's.
func (j Journal) sound(a libsriov.Address) error {
	switch {
	case j.Version != Version:
		return fmt.Errorf("version %d, want %d", j.Version, Version)
	case j.Device != a:
		return fmt.Errorf("it is of %s", j.Device)
	case j.Owner.ContainerID == "" || j.Owner.IfName == "":
		return fmt.Errorf("owner %q, %q", j.Owner.ContainerID, j.Owner.IfName)
	case j.VFIndex < 0 || !isEthernet(j.Before.MAC) || !isVLAN(j.Before.VLAN):
		return fmt.Errorf("VF %d with mac %s, vlan %v", j.VFIndex, j.Before.MAC, j.Before.VLAN)
	}
	l := j.Link
	if l == nil {
		return nil
	}
	if !isName(l.Name) || l.Index < 0 || l.MTU < 0 || l.MTU > maxMTU || !isEthernet(net.HardwareAddr(l.MAC)) || !isEthernet(net.HardwareAddr(l.Broadcast)) || l.Alias != nil && len(*l.Alias) > maxAlias {
		return fmt.Errorf("interface %d %.40q with mtu %d, mac %.40s", l.Index, l.Name, l.MTU, net.HardwareAddr(l.MAC))
	}
	for _, name := range l.AltNames {
		if name == "" || len(name) > maxAltName {
			return fmt.Errorf("alternative name %.40q", name)
		}
	}
	return nil
}

// sound is that of a record, which the other plugin may have written.
func (r Record) sound() bool {
	b := r.Before
	for _, text := range []string{b.AdminMAC, b.EffectiveMAC} {
		if mac, err := net.ParseMAC(text); text != "" && (err != nil || !isEthernet(mac)) {
			return false
		}
	}
	return r.VFIndex >= 0 && (b.HostIFName == "" || isName(b.HostIFName)) && b.MTU >= 0 && b.MTU <= maxMTU &&
		b.Vlan >= 0 && b.Vlan <= maxVLAN && b.VlanQoS >= 0 && b.VlanQoS <= 7 && b.MinTxRate >= 0 && b.MaxTxRate >= 0
}

func isEthernet(mac net.HardwareAddr) bool { return len(mac) == 0 || len(mac) == 6 }

func isVLAN(v *vfstate.VLAN) bool { return v == nil || v.ID <= maxVLAN && v.QoS <= 7 }

// isName reports whether an interface can have a name: dev_valid_name in the kernel's
// net/core/dev.c.
func isName(s string) bool {
	return s != "" && len(s) < unix.IFNAMSIZ && s != "." && s != ".." &&
		!strings.ContainsFunc(s, func(r rune) bool { return r == '/' || r == ':' || unicode.IsSpace(r) })
}
