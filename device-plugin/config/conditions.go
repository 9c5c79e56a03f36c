// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sriovkit/sriovkit/device-plugin/device"
	"github.com/sriovkit/sriovkit/libsriov"
)

// Condition is one key of a selector: how it is read, what has to be known of a device to
// decide it, and which devices meet it. The schema, what is read of the host, the assignment
// and the explanations all follow from the table of [Conditions].
type Condition struct {
	Key   string
	kinds []DeviceType
	read  func(*decoder, *Selector) func(node)
	needs func(*device.Needs)
	// set reports whether a selector has the condition.
	set func(*Selector) bool
	// holds decides about a device. For one that a pod holds as one of this pool, what the
	// host does not say while the pod has the interface counts as it was when it was given
	// out.
	holds func(s *Selector, d *device.Device, held bool) bool
	// explain says what the device has and what the selector wants.
	explain func(s *Selector, d *device.Device) string
}

// Conditions are the keys of a selector, in the order in which they are decided.
var Conditions = []Condition{
	list("vendors", all, nothing, func(s *Selector) *[]libsriov.ID { return &s.Vendors }, parseID,
		func(d *device.Device, want libsriov.ID) bool { return d.Vendor == want },
		never, func(d *device.Device) any { return d.Vendor }),
	list("devices", all, func(n *device.Needs) { n.VFNumbers = true }, func(s *Selector) *[]libsriov.ID { return &s.Devices }, parseID,
		func(d *device.Device, want libsriov.ID) bool { return d.Device == want },
		never, func(d *device.Device) any { return d.Device }),
	list("drivers", all, nothing, func(s *Selector) *[]string { return &s.Drivers }, nonEmpty,
		func(d *device.Device, want string) bool { return d.Driver == want },
		never, func(d *device.Device) any { return d.Driver }),
	list("pciAddresses", all, nothing, func(s *Selector) *[]libsriov.Address { return &s.PCIAddresses }, parsePCIAddress,
		func(d *device.Device, want libsriov.Address) bool { return d.Address == want },
		never, func(d *device.Device) any { return d.Address }),
	list("acpiIndexes", functions, func(n *device.Needs) { n.ACPIIndex = true }, func(s *Selector) *[]string { return &s.ACPIIndexes }, decimal,
		func(d *device.Device, want string) bool { return d.ACPIIndex == want },
		never, func(d *device.Device) any { return orNone(d.ACPIIndex) }),
	list("auxTypes", []DeviceType{AuxNetDevice}, nothing, func(s *Selector) *[]string { return &s.AuxTypes }, parseAuxType,
		func(d *device.Device, want string) bool { return strings.Contains(d.ID, "."+want+".") },
		never, func(d *device.Device) any { return d.ID }),
	list("pfNames", networks, nothing, func(s *Selector) *[]Range { return &s.PFNames }, ParseRange,
		func(d *device.Device, want Range) bool {
			return d.PF != nil && d.HasPFName(want.Parent) && want.Contains(d.Number)
		}, never, part),
	list("rootDevices", networks, nothing, func(s *Selector) *[]Range { return &s.RootDevices }, parseRootDevice,
		func(d *device.Device, want Range) bool {
			return d.PF != nil && d.PF.String() == want.Parent && want.Contains(d.Number)
		}, never, part),
	flag("isVf", functions, nothing, func(s *Selector) *bool { return &s.VF },
		func(d *device.Device) bool { return d.PF != nil }, never, "is no VF of a PF in sight"),
	list("linkTypes", networks, func(n *device.Needs) { n.LinkType = true }, func(s *Selector) *[]libsriov.LinkType { return &s.LinkTypes }, parseLinkType,
		func(d *device.Device, want libsriov.LinkType) bool { return d.LinkType == want },
		func(d *device.Device) bool { return d.LinkType == 0 },
		func(d *device.Device) any {
			if d.LinkType == 0 {
				return "none"
			}
			return d.LinkType
		}),
	list("ddpProfiles", []DeviceType{NetDevice}, func(n *device.Needs) { n.DDP = true }, func(s *Selector) *[]string { return &s.DDPProfiles }, nonEmpty,
		func(d *device.Device, want string) bool { return d.DDP == want },
		never, func(d *device.Device) any { return orNone(d.DDP) }),
	list("pKeys", []DeviceType{NetDevice}, func(n *device.Needs) { n.PKey = true }, func(s *Selector) *[]string { return &s.PKeys }, parsePKey,
		func(d *device.Device, want string) bool { return d.PKey == want },
		func(d *device.Device) bool { return d.PKey == "" }, func(d *device.Device) any { return orNone(d.PKey) }),
	flag("isRdma", networks, func(n *device.Needs) { n.RDMA = true }, func(s *Selector) *bool { return &s.RDMA },
		func(d *device.Device) bool { return d.RDMACapable },
		func(d *device.Device) bool { return len(d.Netdevs) == 0 }, "has no RDMA device"),
	vdpaType(),
	flag("needVhostNet", networks, nothing, func(s *Selector) *bool { return &s.NeedVhostNet },
		func(*device.Device) bool { return true }, never, ""), // no condition: what containers also get
}

var (
	all       = []DeviceType{NetDevice, Accelerator, AuxNetDevice}
	functions = []DeviceType{NetDevice, Accelerator}
	networks  = []DeviceType{NetDevice, AuxNetDevice}
)

func nothing(*device.Needs) {}

// never: the host always says.
func never(*device.Device) bool { return false }

// list is a condition with values, of which one must match. All of it has to be given: a
// condition without a meaning does not compile. unsaid reports whether the host may not say
// while a pod has the device.
func list[T any](key string, kinds []DeviceType, needs func(*device.Needs), to func(*Selector) *[]T, parse func(string) (T, error),
	match func(*device.Device, T) bool, unsaid func(*device.Device) bool, has func(*device.Device) any,
) Condition {
	return Condition{
		Key: key, kinds: kinds, needs: needs,
		read: func(d *decoder, s *Selector) func(node) { return readList(d, key, to(s), parse) },
		set:  func(s *Selector) bool { return len(*to(s)) > 0 },
		holds: func(s *Selector, d *device.Device, held bool) bool {
			return slices.ContainsFunc(*to(s), func(want T) bool { return match(d, want) }) || held && unsaid(d)
		},
		explain: func(s *Selector, d *device.Device) string {
			return fmt.Sprintf("%s: has %v, wants %v", key, has(d), *to(s))
		},
	}
}

// flag is a condition that is there or not.
func flag(key string, kinds []DeviceType, needs func(*device.Needs), to func(*Selector) *bool,
	match, unsaid func(*device.Device) bool, lacks string,
) Condition {
	return Condition{
		Key: key, kinds: kinds, needs: needs,
		read:    func(d *decoder, s *Selector) func(node) { return d.flag(key, to(s)) },
		set:     func(s *Selector) bool { return *to(s) },
		holds:   func(_ *Selector, d *device.Device, held bool) bool { return match(d) || held && unsaid(d) },
		explain: func(*Selector, *device.Device) string { return key + ": " + lacks },
	}
}

func vdpaType() Condition {
	return Condition{
		Key: "vdpaType", kinds: []DeviceType{NetDevice}, needs: func(n *device.Needs) { n.VDPA = true },
		read: func(d *decoder, s *Selector) func(node) { return word(d, "vdpaType", &s.VDPA, VDPAVirtio, VDPAVhost) },
		set:  func(s *Selector) bool { return s.VDPA != "" },
		holds: func(s *Selector, d *device.Device, _ bool) bool {
			_, ok := d.BoundTo(s.VDPA)
			return ok
		},
		explain: func(s *Selector, d *device.Device) string {
			return fmt.Sprintf("vdpaType: has %v, wants %v", d.Bound, s.VDPA)
		},
	}
}

func part(d *device.Device) any {
	if d.PF == nil {
		return "no PF"
	}
	return fmt.Sprintf("%d of %s", d.Number, strings.Join(d.PFNames, ","))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// Fails is the number of the first of Conditions that a device does not meet; -1 if it meets
// all that the selector has. held: a pod holds the device as one of this pool.
func (s *Selector) Fails(d *device.Device, held bool) int {
	return slices.IndexFunc(Conditions, func(c Condition) bool { return c.set(s) && !c.holds(s, d, held) })
}

// Explain says in words why a device does not meet the condition.
func (c Condition) Explain(s *Selector, d *device.Device) string { return c.explain(s, d) }

// NeedsOf collects what the pools of a configuration ask for.
func NeedsOf(pools []Pool) device.Needs {
	var n device.Needs
	for i := range pools {
		p := &pools[i]
		n.Aux = n.Aux || p.DeviceType == AuxNetDevice
		n.Accelerators = n.Accelerators || p.DeviceType == Accelerator
		n.Links = n.Links || p.LinkHealth
		for j := range p.Selectors {
			for _, c := range Conditions {
				if c.set(&p.Selectors[j]) {
					c.needs(&n)
				}
			}
		}
	}
	return n
}
