// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/event"
	"github.com/sriovkit/sriovkit/libsriov/link"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

const (
	// netdevLimit bounds the wait for a VF's netdev after its driver was bound.
	netdevLimit = 10 * time.Second
	// parallelVFs is how many VFs of a PF are configured at the same time.
	parallelVFs = 8
)

// applyVFs carries out the steps of each VF in order, for several VFs at a time.
func (m *Machine) applyVFs(ctx context.Context, addr libsriov.Address, perVF map[int][]plan.Step, pf *v1.InterfaceExt) error {
	if len(perVF) == 0 {
		return nil
	}
	vfs := map[int]libsriov.Address{0: addr} // a VF whose PF is not visible is its own VF 0
	if !pf.Virtual() {
		now, err := m.Host.PF(addr)
		if err != nil && len(now.VFs) == 0 {
			return err
		}
		vfs = make(map[int]libsriov.Address, len(now.VFs))
		for _, vf := range now.VFs {
			vfs[vf.Index] = vf.Address
		}
	}
	indices := slices.Sorted(maps.Keys(perVF))
	errs := make([]error, len(indices)) // by index, so that the same failures always make the same message
	var g errgroup.Group
	g.SetLimit(parallelVFs)
	for at, i := range indices {
		steps := perVF[i]
		g.Go(func() error {
			vf, ok := vfs[i]
			var err error
			if !ok {
				err = libsriov.ErrNoDevice
			}
			for n := 0; n < len(steps) && err == nil; n++ {
				switch steps[n].Op {
				case plan.OpGUID:
					err = m.setGUID(ctx, addr, vf, steps[n])
				case plan.OpMAC:
					err = m.setMAC(ctx, addr, vf, steps[n])
				case plan.OpVDPA:
					err = m.setVDPA(ctx, vf, steps[n].Mode)
				default:
					err = m.applyVF(ctx, vf, steps[n], pf.Virtual())
				}
			}
			if err != nil {
				errs[at] = fmt.Errorf("VF %d of %s: %w", i, addr, err)
			}
			return nil
		})
	}
	_ = g.Wait() // always nil: errors are collected, so that one VF does not stop the others
	return errors.Join(errs...)
}

func (m *Machine) applyVF(ctx context.Context, vf libsriov.Address, s plan.Step, virtual bool) error {
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	if s.Op == plan.OpVFMTU {
		return setVFMTU(ctx, m.Host, vf, s.Num)
	}
	if s.Driver == "" {
		f, err := m.Host.Function(vf)
		if err != nil || plan.DriverFits(v1.DeviceTypeNetDevice, f.Driver) {
			return err
		}
		if err := m.Host.ResetDriver(ctx, vf); err != nil {
			return err
		}
		if d, err := m.Host.Driver(vf); err != nil || d == "" {
			return errors.Join(err, fmt.Errorf("no kernel driver takes %s: is the VF driver's module there?", vf))
		}
		return nil
	}
	return m.bindOrLeave(ctx, vf, s.Driver, virtual)
}

// bindUser binds a VF to a user-space driver.
func (m *Machine) bindUser(ctx context.Context, vf libsriov.Address, driver string, virtual bool) error {
	f, err := m.Host.Function(vf)
	if err != nil {
		return err
	}
	if virtual {
		if err := m.refuseHostUse(f); err != nil {
			return err
		}
	}
	_, iommu, err := m.Host.IOMMUGroup(vf)
	if err != nil {
		return err
	}
	if !iommu && !virtual {
		return fmt.Errorf("%s needs an IOMMU and %s is in no IOMMU group: %s", driver, vf, iommuAdvice)
	}
	if !iommu { // in a virtual machine without a virtual IOMMU: users of VFs there expect it to work
		if err := m.allowNoIOMMU(ctx, driver); err != nil {
			return fmt.Errorf("%s without an IOMMU: %w", driver, err)
		}
	}
	err = m.Host.BindDriver(ctx, vf, driver)
	if errors.Is(err, libsriov.ErrNoDriver) {
		if err := m.loadModule(ctx, driver); err != nil {
			return err
		}
		err = m.Host.BindDriver(ctx, vf, driver)
	}
	return err
}

// allowNoIOMMU switches vfio's no-IOMMU mode on. It comes before the VF is unbound from its
// driver, because not every kernel has the mode.
func (m *Machine) allowNoIOMMU(ctx context.Context, driver string) error {
	module := filepath.Join(m.Files.Root, "sys/module/vfio")
	if _, err := os.Stat(module); errors.Is(err, fs.ErrNotExist) {
		if err := m.loadModule(ctx, driver); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(filepath.Join(module, "parameters/enable_unsafe_noiommu_mode"), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("this kernel was built without CONFIG_VFIO_NOIOMMU: give the virtual machine a virtual IOMMU, or run a kernel that has it")
	} else if err != nil {
		return err
	}
	_, err = f.WriteString("Y")
	return errors.Join(err, f.Close())
}

// refuseHostUse returns an error if the host uses a function: it has an address of the host,
// or another device stands on top of it that may have one (bond, bridge, OVS, VRF, VLAN,
// macvlan).
func (m *Machine) refuseHostUse(f libsriov.Function) error {
	for _, name := range f.Netdevs {
		above, err := m.above(name)
		if err != nil {
			return fmt.Errorf("%s: not known what stands on %s, so it is not taken from the host: %w", f.Address, name, err)
		}
		if len(above) > 0 {
			return fmt.Errorf("%s has %s on top of %s: not taken from the host; take %s out of it first, if it is to be given to pods",
				f.Address, strings.Join(above, ", "), name, name)
		}
		i, err := net.InterfaceByName(name)
		if err != nil {
			continue // renamed or gone meanwhile
		}
		addrs, err := i.Addrs()
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() {
				return fmt.Errorf("%s carries the host's address %s on %s: not taken from the host", f.Address, ip, name)
			}
		}
	}
	return nil
}

// above lists the netdevs on top of a netdev. sysfs has a link upper_NAME for each of them in
// the same network namespace, and a link master to the one that it is a port of
// (linux/net/core/dev.c, netdev_adjacent_sysfs_add).
func (m *Machine) above(name string) ([]string, error) {
	dir := filepath.Join(m.Files.Root, "sys/class/net", name)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // renamed or gone meanwhile
	} else if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if upper, ok := strings.CutPrefix(e.Name(), "upper_"); ok {
			out = append(out, upper)
		}
	}
	switch master, err := os.Readlink(filepath.Join(dir, "master")); {
	case err == nil:
		if master = filepath.Base(master); !slices.Contains(out, master) {
			out = append(out, master)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return out, nil
}

// errNoNetdev is the cause of a wait for a VF's netdev that timed out.
var errNoNetdev = fmt.Errorf("no netdev after %s", netdevLimit)

// awaitNetdev calls try until it returns something else than link.ErrNotFound: a netdev may
// appear some time after its driver was bound.
func awaitNetdev(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, netdevLimit, errNoNetdev)
	defer cancel()
	events, err := event.OpenLinks(nil)
	if err != nil {
		return err
	}
	defer events.Close()
	for {
		if err := try(); !errors.Is(err, link.ErrNotFound) {
			return err
		}
		if _, err := events.Next(ctx); err != nil {
			return err
		}
	}
}

// setVFMTU sets the MTU of a VF's netdev.
func setVFMTU(ctx context.Context, host *libsriov.Host, vf libsriov.Address, mtu int) error {
	if err := awaitNetdev(ctx, func() error { return setLink(vf, link.Update{MTU: mtu}) }); err != nil {
		d, _ := host.Driver(vf)
		return fmt.Errorf("set MTU %d of %s, driver %q: %w", mtu, vf, d, err)
	}
	return nil
}
