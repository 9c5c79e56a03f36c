// SPDX-License-Identifier: Apache-2.0

package prepare

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/sriovkit/sriovkit/device-plugin/dra/vfconfig"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/value"
)

// planDrivers writes into the record which devices have to change their driver. by
// names the driver asked for by device ID.
func (p *Preparer) planDrivers(c *record.Claim, by map[string]string) error {
	for _, r := range c.Requests {
		for _, d := range r.Devices {
			if want := by[d.ID]; want != "" && want != vfconfig.KernelDriver && !isFunction(d.ID) {
				return fmt.Errorf("request %s: driver %q is asked for, and %s is on the auxiliary bus, where drivers stay", r.Name, want, d.ID)
			}
		}
	}
	return p.eachFunction(c, func(r *record.Request, d *record.Device, a libsriov.Address) error {
		want := by[d.ID]
		if want == "" {
			return nil
		}
		now, err := p.Drivers.Driver(a)
		if err != nil {
			return fmt.Errorf("request %s: %w", r.Name, err)
		}
		if now == want || want == vfconfig.KernelDriver && !value.DriverKindOf(now).Userspace() {
			return nil
		}
		if !p.BindDrivers {
			return fmt.Errorf("request %s: driver %q is asked for, %s has %q, and this node binds no drivers for claims (-bind-drivers)", r.Name, want, d.ID, now)
		}
		if !p.allows(d.ID, want) {
			return fmt.Errorf("request %s: driver %q is asked for %s: want %q for the kernel's own, a driver of vfio, or one that the selectors of the pool name", r.Name, want, d.ID, vfconfig.KernelDriver)
		}
		d.Bound, d.Before = want, now
		return nil
	})
}

// allows reports whether whoever writes claims may have a device bound to a driver. A kernel
// driver that was not made for a function may do anything with it, and one of uio lets its
// user have the function write anywhere in the node's memory: those only an administrator
// allows, in the pool's selectors.
func (p *Preparer) allows(id, driver string) bool {
	_, m, _ := p.Lookup(id)
	return driver == vfconfig.KernelDriver || value.DriverKindOf(driver) == value.VFIO || slices.Contains(m.Selector.Drivers, driver)
}

func isFunction(id string) bool {
	_, err := libsriov.ParseAddress(id)
	return err == nil
}

// bind gives devices the drivers that the record names.
func (p *Preparer) bind(ctx context.Context, c record.Claim) error {
	return p.eachFunction(&c, func(r *record.Request, d *record.Device, a libsriov.Address) error {
		if d.Bound == "" {
			return nil
		}
		if err := p.setDriver(ctx, a, d.Bound); err != nil {
			return fmt.Errorf("request %s: driver %q: %w", r.Name, d.Bound, err)
		}
		return p.at("bound " + d.ID)
	})
}

// noteDrivers writes into the record which drivers the devices have now.
func (p *Preparer) noteDrivers(c *record.Claim) error {
	return p.eachFunction(c, func(r *record.Request, d *record.Device, a libsriov.Address) (err error) {
		if d.Driver, err = p.Drivers.Driver(a); err != nil {
			return fmt.Errorf("request %s: %w", r.Name, err)
		}
		return nil
	})
}

// unbind gives devices the drivers back that they had. One that is gone needs none.
func (p *Preparer) unbind(ctx context.Context, c record.Claim) error {
	return p.eachFunction(&c, func(r *record.Request, d *record.Device, a libsriov.Address) error {
		if d.Bound == "" {
			return nil
		}
		now, err := p.Drivers.Driver(a)
		if errors.Is(err, libsriov.ErrNoDevice) {
			return nil
		}
		if err != nil {
			return err
		}
		if now == d.Before {
			return nil
		}
		before := d.Before
		if before == "" || !value.DriverKindOf(before).Userspace() {
			before = vfconfig.KernelDriver
		}
		if err := p.setDriver(ctx, a, before); err != nil {
			return fmt.Errorf("request %s: give %s back to driver %q: %w", r.Name, d.ID, d.Before, err)
		}
		return p.at("given back " + d.ID)
	})
}

func (p *Preparer) setDriver(ctx context.Context, a libsriov.Address, driver string) error {
	if driver == vfconfig.KernelDriver {
		return p.Drivers.ResetDriver(ctx, a)
	}
	return p.Drivers.BindDriver(ctx, a, driver)
}

// eachFunction calls do for every PCI function that the claim has the use of.
func (p *Preparer) eachFunction(c *record.Claim, do func(*record.Request, *record.Device, libsriov.Address) error) error {
	for i := range c.Requests {
		r := &c.Requests[i]
		if r.AdminAccess {
			continue
		}
		for j := range r.Devices {
			a, err := libsriov.ParseAddress(r.Devices[j].ID)
			if err != nil {
				continue // on the auxiliary bus, where drivers stay
			}
			if err := do(r, &r.Devices[j], a); err != nil {
				return err
			}
		}
	}
	return nil
}
