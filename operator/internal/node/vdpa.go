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

// vdpaDrivers are the drivers of the vDPA bus by type of device. Their modules have the same
// names.
var vdpaDrivers = map[string]string{
	v1.VdpaTypeVirtio: libsriov.VDPAVirtio,
	v1.VdpaTypeVhost:  libsriov.VDPAVhost,
}

// vdpaType returns the type of a vDPA device that is bound to driver; "" for other drivers.
func vdpaType(driver string) string {
	for kind, d := range vdpaDrivers {
		if d == driver {
			return kind
		}
	}
	return ""
}

// vdpaName returns the name for the vDPA device of a VF, which is upstream's.
func vdpaName(vf libsriov.Address) string { return "vdpa:" + vf.String() }

// setVDPA creates a VF's vDPA device of type kind or changes its type; for "" it removes the
// device. It can be repeated after an interruption at any point.
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

// loadVDPA loads a driver of the vDPA bus and, for virtio devices, the driver of their netdevs.
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

// endVDPA removes the vDPA device of a VF and binds a virtio function to its default driver.
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

// offerVDPA makes sure that the VF has a driver that can create a vDPA device: vp-vdpa for a
// virtio function, the kernel's default driver for others.
func (m *Machine) offerVDPA(ctx context.Context, vf libsriov.Address) error {
	if offered, err := offersVDPA(vf); err != nil || offered {
		return err
	}
	f, err := m.Host.Function(vf)
	if err != nil {
		return err
	}
	if f.Vendor != virtioVendor {
		if value.DriverKindOf(f.Driver) != value.Kernel { // vfio-pci from an earlier policy, or no driver
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

// vdpaDevice returns the name of a VF's vDPA device; "" if there is none.
func vdpaDevice(vf libsriov.Address) (string, error) {
	devices, err := vdpa.Devices()
	for _, d := range devices {
		if d.Parent == vdpa.Of(vf) {
			return d.Name, err
		}
	}
	return "", err
}

// awaitVDPA waits until a vDPA device has its character device or its netdev.
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

// checkVDPA returns why vDPA devices cannot be created for VFs of a PF, nil if nothing speaks
// against it. Whether a driver can create them is visible only of VFs that exist and have
// their kernel driver, so nothing is checked if the steps create the VFs or change the mode.
func (m *Machine) checkVDPA(ctx context.Context, addr libsriov.Address, steps []plan.Step) error {
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
		if err := m.loadVDPA(ctx, vdpaDrivers[s.Mode]); err != nil { // the kernel lists management devices only with the vDPA module
			return err
		}
		for _, address := range s.Disturbs {
			errs = append(errs, m.checkOffersVDPA(address))
		}
	}
	return errors.Join(errs...)
}

// checkOffersVDPA returns an error if the VF has a kernel driver that cannot create vDPA
// devices.
func (m *Machine) checkOffersVDPA(address string) error {
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
