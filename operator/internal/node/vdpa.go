// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/event"
	"github.com/sriovkit/sriovkit/libsriov/value"
	"github.com/sriovkit/sriovkit/libsriov/vdpa"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// virtioVendor is the PCI vendor of virtio functions.
const virtioVendor = 0x1af4

// vdpaDrivers are the drivers on the vDPA bus, which are also the modules' names, by type.
var vdpaDrivers = map[string]string{
	v1.VdpaTypeVirtio: libsriov.VDPAVirtio,
	v1.VdpaTypeVhost:  libsriov.VDPAVhost,
}

// vdpaType is the type of a vDPA device that is bound to a driver; "" for none of them.
func vdpaType(driver string) string {
	for kind, d := range vdpaDrivers {
		if d == driver {
			return kind
		}
	}
	return ""
}

// vdpaName is what the vDPA device of a VF is called, as upstream's operator calls it.
func vdpaName(vf libsriov.Address) string { return "vdpa:" + vf.String() }

// setVDPA gives a VF a vDPA device of a type, or takes the one it has. It can be repeated
// from wherever it was interrupted.
func (m *Machine) setVDPA(ctx context.Context, vf libsriov.Address, kind string) error {
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	if kind == "" {
		return m.endVDPA(ctx, vf)
	}
	driver, ok := vdpaDrivers[kind]
	if !ok {
		return fmt.Errorf("vDPA type %q, want virtio or vhost", kind)
	}
	if err := m.loadVDPA(ctx, driver); err != nil {
		return err
	}
	if err := m.offerVDPA(ctx, vf); err != nil {
		return err
	}
	name, err := vdpaDevice(vf)
	if err != nil {
		return err
	}
	if name == "" {
		name = vdpaName(vf)
		if err := vdpa.Add(name, vdpa.Of(vf)); err != nil {
			return err
		}
	}
	if err := vdpa.Bind(name, driver); err != nil {
		return err
	}
	return m.awaitVDPA(ctx, name)
}

// loadVDPA loads the driver of a type, and what brings its interfaces about.
func (m *Machine) loadVDPA(ctx context.Context, driver string) error {
	modules := []string{driver}
	if driver == libsriov.VDPAVirtio {
		modules = append(modules, "virtio_net")
	}
	for _, module := range modules {
		if err := m.loadModule(ctx, module); err != nil {
			return err
		}
	}
	return nil
}

// endVDPA removes the vDPA device of a VF and gives a virtio function back to its driver.
func (m *Machine) endVDPA(ctx context.Context, vf libsriov.Address) error {
	name, err := vdpaDevice(vf)
	if err != nil && !errors.Is(err, vdpa.ErrNotSupported) {
		return err
	}
	if name != "" {
		if err := vdpa.Delete(name); err != nil {
			return err
		}
	}
	if driver, err := m.Host.Driver(vf); err != nil || driver != plan.VirtioVDPADriver {
		return err
	}
	return m.Host.ResetDriver(ctx, vf)
}

// offerVDPA has the VF's driver offer a vDPA device: a virtio function is given to the one
// that does, another one to the driver that the kernel has for it.
func (m *Machine) offerVDPA(ctx context.Context, vf libsriov.Address) error {
	if offered, err := offersVDPA(vf); err != nil || offered {
		return err
	}
	f, err := m.Host.Function(vf)
	if err != nil {
		return err
	}
	if f.Vendor != virtioVendor {
		if value.DriverKindOf(f.Driver) != value.Kernel { // with vfio-pci, as a policy before wanted it, or none
			if err := m.Host.ResetDriver(ctx, vf); err != nil {
				return err
			}
			if offered, err := offersVDPA(vf); err != nil || offered {
				return err
			}
			if f, err = m.Host.Function(vf); err != nil {
				return err
			}
		}
		return offersNone(f)
	}
	if err := m.loadModule(ctx, plan.VirtioVDPADriver); err != nil {
		return fmt.Errorf("%w; the module is built with CONFIG_VP_VDPA", err)
	}
	if err := m.Host.BindDriver(ctx, vf, plan.VirtioVDPADriver); err != nil {
		return err
	}
	if offered, err := offersVDPA(vf); err != nil || offered {
		return err
	}
	return fmt.Errorf("%s is bound to %s and offers no vDPA device; is something in the kernel's log?", vf, plan.VirtioVDPADriver)
}

func offersNone(f libsriov.Function) error {
	return fmt.Errorf("the driver %s of %s offers no vDPA device: those of Mellanox do with eSwitchMode switchdev, others may need a module", cmp.Or(f.Driver, "(none)"), f.Address)
}

func offersVDPA(vf libsriov.Address) (bool, error) {
	parents, err := vdpa.Parents()
	return slices.Contains(parents, vdpa.Of(vf)), err
}

// vdpaDevice is the name of a VF's vDPA device; "" if there is none.
func vdpaDevice(vf libsriov.Address) (string, error) {
	devices, err := vdpa.Devices()
	for _, d := range devices {
		if d.Parent == vdpa.Of(vf) {
			return d.Name, err
		}
	}
	return "", err
}

// awaitVDPA waits until a device is what pods are given: a character device or an interface.
func (m *Machine) awaitVDPA(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, netdevLimit)
	defer cancel()
	events, err := event.OpenDevices()
	if err != nil {
		return err
	}
	defer events.Close()
	for {
		d, err := m.Host.VDPA(name)
		if err != nil || d.Node != "" || d.Netdev != "" {
			return err
		}
		if _, err := events.Next(ctx); err != nil {
			return fmt.Errorf("vDPA device %s is bound to %s and has neither interface nor character device: %w", name, d.Driver, err)
		}
	}
}

// ableToVDPA tells why VFs of a PF could not be made vDPA devices. Whether a driver offers
// them is seen of VFs that are there, have a driver of the kernel's, and stay as they are
// until then.
func (m *Machine) ableToVDPA(ctx context.Context, addr libsriov.Address, steps []plan.Step) error {
	f, err := m.Host.Function(addr)
	if err != nil {
		return err
	}
	if f.Vendor == virtioVendor {
		return m.loadModule(ctx, plan.VirtioVDPADriver)
	}
	if slices.ContainsFunc(steps, func(s plan.Step) bool { return s.Op == plan.OpCreate || s.Op == plan.OpEswitch }) {
		return nil
	}
	var errs []error
	for _, s := range steps {
		if s.Op != plan.OpVDPA || s.Mode == "" {
			continue
		}
		if err := m.loadVDPA(ctx, vdpaDrivers[s.Mode]); err != nil { // without it none is listed
			return err
		}
		for _, address := range s.Disturbs {
			errs = append(errs, m.mayOfferVDPA(address))
		}
	}
	return errors.Join(errs...)
}

// mayOfferVDPA tells why the driver of a VF, if it is one of the kernel's, offers no vDPA
// device.
func (m *Machine) mayOfferVDPA(address string) error {
	vf, err := libsriov.ParseAddress(address)
	if err != nil {
		return err
	}
	f, err := m.Host.Function(vf)
	if err != nil || value.DriverKindOf(f.Driver) != value.Kernel {
		return err
	}
	if offered, err := offersVDPA(vf); err != nil || offered {
		return err
	}
	return offersNone(f)
}
