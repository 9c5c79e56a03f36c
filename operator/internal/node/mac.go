// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/value"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"

	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// macDir, below the host's root, has a file for each VF with the administrative MAC that the
// daemon has set. IFLA_VF_MAC alone does not tell: some drivers report a VF's own address
// there. A reboot resets the MACs, and with them goes the directory.
const macDir = runDir + "/macs"

// noMAC returns the VFs without an administrative MAC, by PCI address.
func (f Files) noMAC(found Found) map[string]bool {
	out := map[string]bool{}
	for _, pf := range found.Interfaces {
		for _, vf := range pf.VFs {
			if mac, told := found.MACs[vf.PciAddress]; told && f.macUnset(vf.PciAddress, mac, vf.Mac) {
				out[vf.PciAddress] = true
			}
		}
	}
	return out
}

// macUnset reports whether a VF has no administrative MAC: the address that its PF reports is
// zero, or it is the address of the VF's netdev and the daemon did not set it. Any other
// address somebody has set. own is the netdev's address, "" if the netdev is elsewhere.
func (f Files) macUnset(vf string, told net.HardwareAddr, own string) bool {
	if isZero(told) {
		return true
	}
	given, err := os.ReadFile(filepath.Join(f.Root, macDir, vf))
	return told.String() == own && (err != nil || string(given) != own)
}

func (f Files) noteMAC(vf libsriov.Address, mac net.HardwareAddr) error {
	if err := os.MkdirAll(filepath.Join(f.Root, macDir), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(f.Root, macDir, vf.String()), []byte(mac.String()), 0o600)
}

// setMAC sets the administrative MAC of a VF, unless somebody else has set one meanwhile. If the
// VF's hardware has an address, that is used. The netdev gets the address first: many drivers
// refuse to change it once the PF has set one, and read the PF's only while being bound. If the
// driver refuses all the same, it is bound anew.
func (m *Machine) setMAC(ctx context.Context, pf, vf libsriov.Address, s plan.Step) error {
	mac, err := net.ParseMAC(s.MAC)
	if err != nil || len(mac) != 6 {
		return fmt.Errorf("administrative MAC %q: want six bytes", s.MAC)
	}
	c, err := link.Open(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	uplink, err := c.ByParent(pf)
	if err != nil {
		return fmt.Errorf("netdev of %s: %w", pf, err)
	}
	own, err := m.vfNetdev(ctx, c, vf)
	if err != nil {
		return err
	}
	if made := len(s.Disturbs) == 0; !made {
		now, err := c.VFState(uplink.Index, s.VF)
		if err != nil || now.MAC == nil || !m.Files.macUnset(vf.String(), now.MAC, own.MAC.String()) {
			return err
		}
	}
	if own.Index != 0 && m.permanent(own.Name) && !isZero(own.MAC) {
		mac = own.MAC
	}
	agrees := own.Index == 0 || bytes.Equal(own.MAC, mac)
	if !agrees {
		agrees = c.Set(own.Index, link.Update{MAC: mac}) == nil
	}
	if err := c.SetVF(uplink.Index, s.VF, vfstate.State{MAC: mac}); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) { // its driver knows no settings of VFs
			return nil
		}
		return err // names attribute, value and VF
	}
	if err := m.Files.noteMAC(vf, mac); err != nil || agrees {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	return m.Host.ResetDriver(ctx, vf)
}

// vfNetdev returns the netdev of a VF; the zero Link if its driver makes none.
func (m *Machine) vfNetdev(ctx context.Context, c *link.Conn, vf libsriov.Address) (link.Link, error) {
	driver, err := m.Host.Driver(vf)
	if err != nil || value.DriverKindOf(driver) != value.Kernel {
		return link.Link{}, err
	}
	var found link.Link
	err = awaitNetdev(ctx, func() (err error) {
		found, err = c.ByParent(vf)
		return err
	})
	if errors.Is(err, errNoNetdev) { // a kernel driver that makes no netdev
		return link.Link{}, nil
	}
	return found, err
}

// permanent reports whether an interface's address comes from its hardware
// (addr_assign_type, https://docs.kernel.org/admin-guide/abi-testing.html).
func (m *Machine) permanent(name string) bool {
	b, err := os.ReadFile(filepath.Join(m.Files.Root, "sys/class/net", name, "addr_assign_type"))
	return err == nil && strings.TrimSpace(string(b)) == "0"
}
