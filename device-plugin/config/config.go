// SPDX-License-Identifier: Apache-2.0

// Package config reads the file that says which devices go into which resource
// pool. The format is that of the SR-IOV network device plugin: a JSON object
// with a resourceList. Reading is pure and strict: an unknown key, a value that
// can match nothing and a pool that kubelet would refuse are errors with line
// and column, and a file with one error yields no configuration at all.
//
// Keys are matched without regard to case, and the keys that programs leave in
// the files they render (SelectorObjs, IsRdma) are accepted.
package config

import (
	"fmt"
	"strings"

	"github.com/sriovkit/sriovkit/device-plugin/device"
	"github.com/sriovkit/sriovkit/libsriov"
)

// Config is a whole file. Without pools it is valid: nothing is offered.
type Config struct {
	Pools []Pool // in the file's order, which decides who takes a device first
}

// Pool becomes one extended resource.
type Pool struct {
	Resource   Resource
	DeviceType DeviceType
	// Selectors are alternatives. A device is in the pool if one takes it; the
	// first that does decides which device nodes a container gets with it.
	Selectors []Selector
	// AdditionalInfo is handed to containers, by "*" (every device), PCI
	// address, or name of an auxiliary device; the more specific wins.
	AdditionalInfo map[string]map[string]string

	ExcludeTopology bool       // do not tell kubelet the NUMA node
	IncludePFs      bool       // offer SR-IOV PFs that have no VFs
	LinkHealth      bool       // a device whose PF has no carrier is Unhealthy
	Preference      Preference // which devices a container gets of those free
}

// Resource is the name that pods ask for.
type Resource struct {
	Prefix, Name string
}

func (r Resource) String() string { return r.Prefix + "/" + r.Name }

// EnvName is the environment variable that lists a container's devices. Only
// dots are replaced, which consumers rely on; a hyphen makes a name that no
// shell can read but every program can.
func (r Resource) EnvName() string {
	return strings.ToUpper(strings.ReplaceAll("PCIDEVICE_"+r.Prefix+"_"+r.Name, ".", "_"))
}

// DeviceType says what kind of device a pool holds.
type DeviceType = device.Type

// Device types, as they are spelled in the file.
const (
	NetDevice    = device.Net
	Accelerator  = device.Accelerator
	AuxNetDevice = device.AuxNet
)

// Preference is how to choose among free devices (GetPreferredAllocation).
type Preference string

// Preferences, as they are spelled in the file.
const (
	Packed Preference = "packed" // near each other: same NUMA node, then same PF
	Spread Preference = "spread" // over as many PFs as possible, e.g. for a bond
)

// VDPAType is who consumes a vDPA device.
type VDPAType = device.VDPAType

// vDPA types, as they are spelled in the file.
const (
	VDPAVirtio = device.VDPAVirtio
	VDPAVhost  = device.VDPAVhost
)

// Selector is a set of conditions that all must hold. Of the values of one
// condition one must match; a condition without values always holds. What each
// means is in the table of Conditions.
type Selector struct {
	Vendors, Devices []libsriov.ID
	Drivers          []string
	PCIAddresses     []libsriov.Address // of an auxiliary device the function that it is on
	ACPIIndexes      []string           // decimal
	PFNames          []Range            // by interface name or alternative name, any case
	RootDevices      []Range            // by PCI address in the kernel's spelling
	LinkTypes        []libsriov.LinkType
	DDPProfiles      []string
	PKeys            []string // as the kernel prints them: "0x" and four digits
	AuxTypes         []string // only "sf" so far
	VF               bool     // is a VF with its PF in sight
	RDMA             bool     // has an RDMA device; containers get its nodes
	VDPA             VDPAType // has a vDPA device bound so; "" does not matter

	// NeedVhostNet is no condition: containers also get /dev/vhost-net and
	// /dev/net/tun.
	NeedVhostNet bool
}

// Parse reads a configuration. Pools without a resourcePrefix of their own get
// the default one. The error joins a *PositionError for each thing that is
// wrong.
func Parse(data []byte, defaultPrefix string) (Config, error) {
	root, err := parseJSON(data)
	if err != nil {
		return Config{}, err
	}
	d := &decoder{data: data}
	cfg := d.config(root, defaultPrefix)
	if err := d.err(); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// unique reports pools of the same resource, and pools whose environment variables would have
// the same name.
func (d *decoder) unique(pools []Pool, at []node) {
	byName, byEnv := map[Resource]bool{}, map[string]Resource{}
	for i, p := range pools {
		if p.Resource.Name == "" {
			continue // reported already
		}
		d.pool = p.Resource.Name
		other, clash := byEnv[p.Resource.EnvName()]
		if !clash {
			other, clash = byEnv[p.Resource.EnvName()+"_INFO"]
		}
		switch {
		case byName[p.Resource]:
			d.fail(at[i].offset, fmt.Errorf("resource %s is defined twice; put both selectors into one pool's list", p.Resource))
		case clash:
			d.fail(at[i].offset, fmt.Errorf("resource %s would share the variable %s with %s; rename one", p.Resource, p.Resource.EnvName(), other))
		}
		byName[p.Resource], byEnv[p.Resource.EnvName()], byEnv[p.Resource.EnvName()+"_INFO"] = true, p.Resource, p.Resource
	}
}
