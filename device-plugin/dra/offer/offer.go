// SPDX-License-Identifier: Apache-2.0

// Package offer makes of resource pools what the scheduler is told of a node: devices
// with attributes and taints, in ResourceSlices
// (https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/).
// It is pure: the same pools give the same slices in the same order.
package offer

import (
	"fmt"
	"slices"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/device"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"github.com/sriovkit/sriovkit/libsriov"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/dynamic-resource-allocation/resourceslice"
)

// maxDevices is how many devices a slice may have if any has a taint
// (ResourceSliceMaxDevicesWithTaintsOrConsumesCounters). Slices are always cut there,
// so that a link that goes down moves no device to another slice.
const maxDevices = resourceapi.ResourceSliceMaxDevicesWithAdvancedFeatures

// maxString is the limit of the API for the text of an attribute, in bytes.
const maxString = resourceapi.DeviceAttributeMaxValueLength

// Keys of taints.
const (
	// TaintNoCarrier is on devices of pools with linkHealth whose PF has no carrier.
	TaintNoCarrier = "sriovkit.io/no-carrier"
	// TaintUnusable is on devices that are gone or have another driver than they were
	// given out with.
	TaintUnusable = "sriovkit.io/unusable"
)

// Pool is a resource pool with its devices.
type Pool struct {
	config.Pool
	Members []pool.Member
}

// Facts are what is published of a device and no pool asks for. Empty: not known, not
// published.
type Facts struct {
	PCIeRoot    string // such as "pci0000:00"
	PFDevice    string // device ID of the PF, four digits
	EswitchMode string // "legacy" or "switchdev", devlink's DEVLINK_ATTR_ESWITCH_MODE
	Fabric      string // switch ID of the PF, IFLA_PHYS_SWITCH_ID in hex
	MTU         int    // bytes, of the device's interface
	SpeedMbps   int    // of the PF's link
}

// Options say how a node publishes.
type Options struct {
	Driver string // name of the DRA driver
	Node   string // name of the node, which names the pool of its devices
	// NoTaints is for API servers that drop taints: devices that would have one are
	// left out.
	NoTaints bool
	// EvictOnNoCarrier gives the taint of a lost carrier the effect NoExecute, which evicts
	// pods, instead of NoSchedule, which keeps new ones away.
	EvictOnNoCarrier bool
	// AsGiven reports whether an unhealthy device is still as its claim got it, so that only
	// its pool would not take it any more. Its taint then is NoSchedule: the pod that has it
	// stays. With nil no device is.
	AsGiven func(m *pool.Member) bool
	// Facts of a device; nil knows none.
	Facts func(d pool.Device) Facts
}

// Published is what a node publishes.
type Published struct {
	Resources resourceslice.DriverResources
	// Health has an entry for each device in Resources and those left out for their
	// health, in the same order.
	Health []Health
	// Problems are values that the API would refuse, and were left out.
	Problems []error
}

// Health of a device by the name it is published under.
type Health struct {
	Device    string
	Unhealthy string // why; "" is healthy
}

// Publish composes the slices of a node. There is always one slice, so that "no
// devices" can be told from "no driver".
func Publish(pools []Pool, o Options) Published {
	type entry struct {
		pool   *Pool
		member *pool.Member
	}
	var entries []entry
	for i := range pools {
		for j := range pools[i].Members {
			entries = append(entries, entry{&pools[i], &pools[i].Members[j]})
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return device.Compare(a.member.Device, b.member.Device) })

	var out Published
	var devices []resourceapi.Device
	for _, e := range entries {
		name := pool.DRAName(e.member.ID)
		out.Health = append(out.Health, Health{Device: name, Unhealthy: e.member.Unhealthy})
		if e.member.Unhealthy != "" && o.NoTaints {
			continue
		}
		attributes, problems := o.attributes(e.pool, e.member)
		out.Problems = append(out.Problems, problems...)
		devices = append(devices, resourceapi.Device{
			Name: name, Attributes: attributes, Taints: o.taints(e.member),
		})
	}
	var cut []resourceslice.Slice
	for chunk := range slices.Chunk(devices, maxDevices) {
		cut = append(cut, resourceslice.Slice{Devices: chunk})
	}
	if len(cut) == 0 {
		cut = []resourceslice.Slice{{}}
	}
	out.Resources = resourceslice.DriverResources{Pools: map[string]resourceslice.Pool{o.Node: {Slices: cut}}}
	return out
}

// taints of an unhealthy device. The time is left to the API server, which sets it when
// the taint appears.
func (o Options) taints(m *pool.Member) []resourceapi.DeviceTaint {
	switch m.Unhealthy {
	case "":
		return nil
	case pool.NoCarrier:
		effect := resourceapi.DeviceTaintEffectNoSchedule
		if o.EvictOnNoCarrier {
			effect = resourceapi.DeviceTaintEffectNoExecute
		}
		return []resourceapi.DeviceTaint{{Key: TaintNoCarrier, Effect: effect}}
	}
	effect := resourceapi.DeviceTaintEffectNoExecute
	if o.AsGiven != nil && o.AsGiven(m) {
		effect = resourceapi.DeviceTaintEffectNoSchedule
	}
	return []resourceapi.DeviceTaint{{Key: TaintUnusable, Effect: effect}}
}

// Domains of attributes that are not the driver's own.
const (
	multus   = "k8s.cni.cncf.io/"
	standard = "resource.kubernetes.io/"
)

// AttributeResourceName and AttributeDeviceID are by what the meta plugin finds the
// device of a network.
const (
	AttributeResourceName resourceapi.QualifiedName = multus + "resourceName"
	AttributeDeviceID     resourceapi.QualifiedName = multus + "deviceID"
)

// attributes of a device. Those without a domain are the driver's. Names and values are
// those of dra-driver-sriov where it has them, so that claims written for it work.
func (o Options) attributes(p *Pool, m *pool.Member) (map[resourceapi.QualifiedName]resourceapi.DeviceAttribute, []error) {
	a := attributeSet{values: map[resourceapi.QualifiedName]resourceapi.DeviceAttribute{}, device: m.ID}
	address := m.Address.String()
	var f Facts
	if o.Facts != nil {
		f = o.Facts(m.Device)
	}
	a.text("vendor", m.Vendor.String())
	a.text("deviceID", m.Function.Device.String())
	a.text("pfDeviceID", f.PFDevice)
	a.text("pciAddress", address)
	a.text("EswitchMode", f.EswitchMode)
	a.text("linkType", linkType(m.Device))
	a.flag("rdmaCapable", m.RDMACapable)
	a.text("driver", m.Driver)
	a.text("fabric", f.Fabric)
	a.number("mtu", f.MTU)
	a.number("speedMbps", f.SpeedMbps)
	a.text("vdpaType", string(m.Selector.VDPA))
	switch {
	case m.Type == config.AuxNetDevice:
		a.integer("sfnum", int64(m.Number))
	case m.PF != nil:
		a.integer("vfID", int64(m.Number))
	}
	if len(m.PFNames) > 0 {
		a.text("PFName", m.PFNames[0])
	}
	if m.PF != nil {
		a.text("pfPciAddress", m.PF.String())
	}
	a.text(AttributeDeviceID, m.ID)
	a.text(AttributeResourceName, p.Resource.String())
	a.text(standard+"pciBusID", address)
	a.text(standard+"pcieRoot", f.PCIeRoot)
	if m.NUMANode >= 0 {
		a.integer(standard+"numaNode", int64(m.NUMANode))
	}
	return a.values, a.problems
}

func linkType(d pool.Device) string {
	switch d.LinkType {
	case libsriov.LinkEther:
		return "ethernet"
	case libsriov.LinkInfiniBand:
		return "infiniband"
	}
	return ""
}

type attributeSet struct {
	device   string
	values   map[resourceapi.QualifiedName]resourceapi.DeviceAttribute
	problems []error
}

func (a *attributeSet) text(name resourceapi.QualifiedName, value string) {
	switch {
	case value == "":
	case len(value) > maxString:
		a.problems = append(a.problems, fmt.Errorf("device %s: attribute %s is %.80q, of more than the %d bytes that the API takes, and not published", a.device, name, value, maxString))
	default:
		a.values[name] = resourceapi.DeviceAttribute{StringValue: &value}
	}
}

func (a *attributeSet) flag(name resourceapi.QualifiedName, value bool) {
	a.values[name] = resourceapi.DeviceAttribute{BoolValue: &value}
}

func (a *attributeSet) integer(name resourceapi.QualifiedName, value int64) {
	a.values[name] = resourceapi.DeviceAttribute{IntValue: &value}
}

// number leaves out what is not known.
func (a *attributeSet) number(name resourceapi.QualifiedName, value int) {
	if value > 0 {
		a.integer(name, int64(value))
	}
}
