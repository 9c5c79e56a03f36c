// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"math"
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
	case j.VFIndex < 0 || !isState(j.Before) || !isState(j.Want):
		return fmt.Errorf("VF %d with %v, %v wanted", j.VFIndex, j.Before.Split(), j.Want.Split())
	}
	l := j.Link
	if l == nil {
		return nil
	}
	if !isName(l.Name) || l.Index < 0 || l.Index > math.MaxInt32 || l.MTU < 0 || l.MTU > maxMTU || !isEthernet(net.HardwareAddr(l.MAC)) || !isEthernet(net.HardwareAddr(l.Broadcast)) || l.Alias != nil && len(*l.Alias) > maxAlias {
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
		b.Vlan >= 0 && b.Vlan <= maxVLAN && b.VlanQoS >= 0 && b.VlanQoS <= 7 && (b.Vlan == 0 || isProto(b.VlanProto)) &&
		b.MinTxRate >= 0 && b.MinTxRate <= math.MaxUint32 && b.MaxTxRate >= 0 && b.MaxTxRate <= math.MaxUint32
}

func isEthernet(mac net.HardwareAddr) bool { return len(mac) == 0 || len(mac) == 6 }

func isState(s vfstate.State) bool {
	v := s.VLAN
	return isEthernet(s.MAC) && s.SpoofCheck <= vfstate.On && s.Trust <= vfstate.On && s.QueryRSS <= vfstate.On && s.LinkState <= vfstate.LinkDisable &&
		(v == nil || v.QoS <= 7 && (v.ID == 0 || v.ID <= maxVLAN && isProto(int(v.Proto)))) // without a tag drivers report any
}

func isProto(p int) bool {
	return p == 0 || p == int(vfstate.Proto8021Q) || p == int(vfstate.Proto8021AD)
}

// isName reports whether an interface can have a name: dev_valid_name in the kernel's
// net/core/dev.c.
func isName(s string) bool {
	return s != "" && len(s) < unix.IFNAMSIZ && s != "." && s != ".." &&
		!strings.ContainsFunc(s, func(r rune) bool { return r == '/' || r == ':' || unicode.IsSpace(r) })
}
