// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/libsriov"
)

// Source is where [Read] finds the facts.
type Source struct {
	Host    *libsriov.Host
	Network Network
	// DDP names the DDP package that a PF runs; "" if none. Nil knows none.
	DDP func(pf libsriov.Function) (string, error)
	// EnableRDMA reads the devlink parameter of that name, the sign of a
	// function whose RDMA device is in a pod's namespace. Nil knows none.
	EnableRDMA func(a libsriov.Address) (bool, error)
}

// Read lists the devices of the host. What could not be read is left out and
// joined into the error, a *libsriov.DeviceError for each device; the rest is good, unless
// the error wraps libsriov.ErrNoSnapshot. See [Recall].
func Read(src Source, needs Needs) ([]Device, error) {
	snapshot, err := src.Host.Snapshot()
	if errors.Is(err, libsriov.ErrNoSnapshot) {
		return nil, err
	}
	r := &reader{Source: src, needs: needs, errs: []error{err}, ddp: map[libsriov.Address]string{}}
	for i := range snapshot.PFs {
		r.pf(&snapshot.PFs[i])
	}
	for _, vf := range snapshot.VFs {
		d := r.device(vf.Function)
		d.PF, d.Number = &vf.PF, uint32(vf.Index)
		r.own(&d)
		r.add(d, nil)
	}
	for _, f := range snapshot.Functions {
		d := r.device(f)
		uplinks := r.own(&d)
		r.add(d, r.names(uplinks))
	}
	r.ownNumbers()
	return r.devices, errors.Join(r.errs...)
}

// ownNumbers finds the idle PFs whose device number no VF has, there or to be.
func (r *reader) ownNumbers() {
	if !r.needs.VFNumbers {
		return
	}
	ofVFs := map[libsriov.ID]bool{}
	for i := range r.devices {
		switch d := &r.devices[i]; {
		case d.PF != nil && d.Type != config.AuxNetDevice:
			ofVFs[d.Device] = true
		case d.IdlePF:
			id, ok, err := r.Host.VFDevice(d.Address)
			r.note(d.Address, err)
			if ok {
				ofVFs[id] = true
			}
		}
	}
	for i := range r.devices {
		r.devices[i].OwnNumber = r.devices[i].IdlePF && !ofVFs[r.devices[i].Device]
	}
}

type reader struct {
	Source
	needs   Needs
	devices []Device
	errs    []error
	ddp     map[libsriov.Address]string // by PF
}

// note keeps a failure to read one fact; the device then simply lacks it.
func (r *reader) note(a libsriov.Address, err error) {
	if err != nil {
		r.errs = append(r.errs, &libsriov.DeviceError{Device: a.String(), Err: err})
	}
}

// pf lists a PF and its VFs. Facts that a VF shares with its PF are read once.
func (r *reader) pf(pf *libsriov.PF) {
	r.devices = slices.Grow(r.devices, len(pf.VFs)+1)
	parent := r.device(pf.Function)
	uplinks := r.own(&parent)
	names := r.names(uplinks)
	switch {
	case pf.NumVFs == 0:
		parent.IdlePF = parent.Type == config.NetDevice
	case parent.Barred == "" && parent.Type == config.NetDevice:
		parent.Barred = fmt.Sprintf("SR-IOV PF with %d VFs", pf.NumVFs)
	}
	r.add(parent, names)
	for _, vf := range pf.VFs {
		d := r.device(vf.Function)
		d.PF, d.PFNames, d.Number = &pf.Address, names, uint32(vf.Index)
		d.LinkType, d.Carrier = parent.LinkType, parent.Carrier
		if parent.LinkType == 0 && r.needs.LinkType {
			r.linkType(&d, d.Netdevs)
		}
		if r.needs.DDP {
			d.DDP = r.ddpOf(pf.Function)
		}
		r.extras(&d)
		r.add(d, names)
	}
}

// device fills in what costs nothing.
func (r *reader) device(f libsriov.Function) Device {
	d := Device{ID: f.Address.String(), Type: config.NetDevice, Function: f, RDMACapable: len(f.RDMA) > 0}
	if f.Class.Base() == libsriov.ClassAccelerator {
		d.Type = config.Accelerator
	}
	d.Barred = r.Network.barred(d.ID, f.Netdevs)
	return d
}

// own fills in what a device without a PF knows about itself, and names its interfaces to
// the wire, from the first of which it learns it.
func (r *reader) own(d *Device) (uplinks []string) {
	uplinks, err := r.Host.Uplinks(d.Function)
	if err != nil && !errors.Is(err, libsriov.ErrNoNetdev) {
		r.note(d.Address, err)
	}
	if len(uplinks) > 0 {
		d.Carrier = r.Network.carrier(uplinks[0])
	}
	if r.needs.LinkType {
		r.linkType(d, uplinks)
	}
	if r.needs.DDP && d.Type == config.NetDevice {
		d.DDP = r.ddpOf(d.Function)
	}
	r.extras(d)
	return uplinks
}

func (r *reader) linkType(d *Device, netdevs []string) {
	if len(netdevs) == 0 {
		return
	}
	t, err := r.Host.LinkType(netdevs[0])
	r.note(d.Address, err)
	d.LinkType = t
}

// names lists what a PF's interfaces are called.
func (r *reader) names(uplinks []string) (names []string) {
	for _, uplink := range uplinks {
		names = append(append(names, uplink), r.Network.links[uplink].AltNames...)
	}
	return names
}

func (r *reader) ddpOf(pf libsriov.Function) string {
	name, known := r.ddp[pf.Address]
	if !known && r.DDP != nil {
		var err error
		name, err = r.DDP(pf)
		r.note(pf.Address, err)
		r.ddp[pf.Address] = name
	}
	return name
}

// extras reads the facts of single devices that some pool asks for.
func (r *reader) extras(d *Device) {
	if r.needs.ACPIIndex {
		index, _, err := r.Host.ACPIIndex(d.Address)
		r.note(d.Address, err)
		d.ACPIIndex = index
	}
	if r.needs.PKey && len(d.RDMA) > 0 {
		key, err := r.Host.PKey(d.RDMA[0])
		r.note(d.Address, err)
		d.PKey = key
	}
	if r.needs.VDPA {
		for _, name := range d.VDPA {
			v, err := r.Host.VDPA(name)
			r.note(d.Address, err)
			if err == nil {
				d.Bound = append(d.Bound, v)
			}
		}
	}
	if r.needs.RDMA && !d.RDMACapable && d.Type == config.NetDevice && r.EnableRDMA != nil {
		on, err := r.EnableRDMA(d.Address)
		r.note(d.Address, err)
		d.RDMACapable = on
	}
}

// add lists a device, if some pool could have it, and the sub-functions
// below it, whose parent goes by the given names.
func (r *reader) add(d Device, names []string) {
	if d.Type != config.Accelerator || r.needs.Accelerators {
		r.devices = append(r.devices, d)
	}
	if !r.needs.Aux {
		return
	}
	for _, aux := range d.Aux {
		if aux.Kind() == "sf" {
			r.sf(d, aux, names)
		}
	}
}

func (r *reader) sf(parent Device, aux libsriov.Aux, names []string) {
	number, err := r.Host.SFNum(aux.Name)
	if err != nil {
		r.errs = append(r.errs, &libsriov.DeviceError{Device: aux.Name, Err: err})
		return
	}
	d := Device{
		ID: aux.Name, Type: config.AuxNetDevice, Function: parent.Function, PF: &parent.Address,
		PFNames: names, Number: number, LinkType: parent.LinkType, Carrier: parent.Carrier,
		Barred: r.Network.barred(aux.Name, aux.Netdevs),
	}
	d.Netdevs, d.RDMA, d.Aux = aux.Netdevs, aux.RDMA, nil
	if parent.LinkType == 0 && r.needs.LinkType {
		r.linkType(&d, aux.Netdevs)
	}
	d.RDMACapable = len(aux.RDMA) > 0
	r.devices = append(r.devices, d)
}
