// SPDX-License-Identifier: Apache-2.0

// Package devlink speaks generic netlink's devlink family about the parts of a
// network device that are neither PCI nor netdev: the embedded switch and its
// ports, parameters, firmware versions
// (https://docs.kernel.org/networking/devlink/).
//
// Reading the embedded switch's mode and everything that writes needs
// CAP_NET_ADMIN in the initial user namespace.
package devlink

import (
	"errors"
	"fmt"

	"github.com/sriovkit/sriovkit/libsriov"
)

// ErrNotSupported: the kernel has no devlink, the device does not register
// with it, or its driver lacks the operation.
var ErrNotSupported = errors.New("not supported through devlink")

// Device is a devlink handle. PCI functions are on bus "pci" under their
// address.
type Device struct {
	Bus, Name string
}

// PCI is the handle of a PCI function.
func PCI(a libsriov.Address) Device { return Device{Bus: "pci", Name: a.String()} }

func (d Device) String() string { return d.Bus + "/" + d.Name }

// Mode is how a device's embedded switch forwards.
type Mode uint16

// Modes of an embedded switch.
const (
	Legacy    Mode = 0 // by MAC and VLAN
	Switchdev Mode = 1 // as the host tells it, through one representor per function
)

func (m Mode) String() string {
	switch m {
	case Legacy:
		return "legacy"
	case Switchdev:
		return "switchdev"
	}
	return fmt.Sprintf("mode-%d", uint16(m))
}

// ParseMode reads "legacy" or "switchdev".
func ParseMode(s string) (Mode, error) {
	for _, m := range []Mode{Legacy, Switchdev} {
		if s == m.String() {
			return m, nil
		}
	}
	return 0, fmt.Errorf("eswitch mode %q: want legacy or switchdev", s)
}
