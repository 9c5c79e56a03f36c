// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"slices"

	"github.com/sriovkit/sriovkit/device-plugin/config"
)

// Check is what kept a device out of a pool; Taken means that nothing did.
type Check uint8

// Checks. Condition and those above are the conditions of a selector, by their number in
// [config.Conditions].
const (
	Taken Check = iota
	OtherType
	Barred
	InUse   // by a pod, as a device of another resource
	Earlier // a pool further up in the file has it
	NoDriver
	IdlePF
	Condition
)

// admit checks what does not depend on a selector.
func admit(d *Device, p *config.Pool) Check {
	switch {
	case d.Type != p.DeviceType:
		return OtherType
	case d.Barred != "":
		return Barred
	case d.Driver == "":
		return NoDriver
	}
	return Taken
}

// match finds the first condition of a selector that a device does not meet. held: a pod holds
// it as one of this pool.
func match(d *Device, s *config.Selector, held bool) Check {
	if i := s.Fails(d, held); i >= 0 {
		return Condition + Check(i)
	}
	return Taken
}

// asksForPF reports whether a selector that an idle PF meets has asked for PFs: by the PF's
// address, by a device number that no VF has, or, as the guides for host-device networks do,
// by RDMA devices of a vendor. The latter only where all that the pool could have are such
// PFs; beside VFs it means those. A broad selector takes no NIC that the host may need.
func asksForPF(d *Device, p *config.Pool, s *config.Selector, onlyPFs bool) bool {
	narrow := len(s.Vendors) > 0 || len(s.Devices) > 0 || len(s.Drivers) > 0
	return p.IncludePFs ||
		slices.Contains(s.PCIAddresses, d.Address) ||
		len(s.Devices) > 0 && d.OwnNumber ||
		s.RDMA && narrow && onlyPFs
}

// onlyIdlePFs reports whether some devices meet a selector of a pool, and all of them are SR-IOV
// PFs without VFs.
func onlyIdlePFs(devices []Device, p *config.Pool) bool {
	if !slices.ContainsFunc(p.Selectors, func(s config.Selector) bool { return s.RDMA }) {
		return false // nobody asks
	}
	some := false
	for i := range devices {
		d := &devices[i]
		if admit(d, p) != Taken || !slices.ContainsFunc(p.Selectors, func(s config.Selector) bool { return s.Fails(d, false) < 0 }) {
			continue
		}
		if !d.IdlePF {
			return false
		}
		some = true
	}
	return some
}

// Explain says in words why a pool did not take a device. The selector is the
// last one that was tried.
func (c Check) Explain(d *Device, s *config.Selector) string {
	switch c {
	case Taken:
		return "taken"
	case OtherType:
		return "is a " + string(d.Type)
	case Barred:
		return d.Barred
	case InUse:
		return "in use by a pod as a device of another resource"
	case Earlier:
		return "a pool further up takes it"
	case NoDriver:
		return "bound to no driver"
	case IdlePF:
		return "SR-IOV PF without VFs; name it in pciAddresses or set includePFs"
	case Condition:
	}
	return config.Conditions[c-Condition].Explain(s, d)
}
