// SPDX-License-Identifier: Apache-2.0

package libsriov

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// ErrNoDriver: no driver of that name is loaded, or it does not take the
// function.
var ErrNoDriver = errors.New("driver is not loaded or does not accept the function")

// Driver names the driver that a function is bound to; "" if none.
func (h *Host) Driver(a Address) (string, error) {
	base, _, err := h.fs.LinkBase(device(a, "driver"))
	if err != nil {
		return "", err
	}
	if base == "" && !h.fs.Exists(device(a, "")) {
		return "", fmt.Errorf("%s: %w", a, ErrNoDevice)
	}
	return base, nil
}

// BindDriver gives a function to a driver, whatever it is bound to now, and
// keeps it there across later probes (driver_override). It does nothing if that
// driver has it already. If the driver does not take it, the override is
// removed, the former driver gets the function back, and the error wraps
// ErrNoDriver.
func (h *Host) BindDriver(ctx context.Context, a Address, driver string) (err error) {
	if driver == "" || strings.ContainsAny(driver, "/\n\x00") || driver == "." || driver == ".." {
		return fmt.Errorf("bind %s: %q is not a driver name", a, driver)
	}
	former, err := h.Driver(a)
	if err != nil || former == driver {
		return err
	}
	if !h.fs.Exists("sys/bus/pci/drivers/" + driver) {
		return fmt.Errorf("bind %s to %s: %w; try: modprobe %s", a, driver, ErrNoDriver, driver)
	}
	if err := h.override(ctx, a, driver); err != nil {
		return fmt.Errorf("bind %s to %s: %w", a, driver, err)
	}
	err = h.reprobe(ctx, a, former)
	if err == nil {
		var now string
		if now, err = h.Driver(a); err == nil && now == driver {
			return nil
		}
	}
	if err == nil {
		err = ErrNoDriver
	}
	// Give it back even if ctx is what ended the attempt.
	undo := context.WithoutCancel(ctx)
	rollback := h.override(undo, a, "")
	if former != "" {
		rollback = errors.Join(rollback, h.reprobe(undo, a, ""))
	}
	return errors.Join(fmt.Errorf("bind %s to %s: %w", a, driver, err), rollback)
}

// ResetDriver removes an override and lets the kernel choose the driver, as it
// does when the function first appears. The function may end up with none.
func (h *Host) ResetDriver(ctx context.Context, a Address) error {
	current, err := h.Driver(a)
	if err != nil {
		return err
	}
	if err := h.override(ctx, a, ""); err != nil {
		return fmt.Errorf("reset driver of %s: %w", a, err)
	}
	if err := h.reprobe(ctx, a, current); err != nil {
		return fmt.Errorf("reset driver of %s: %w", a, err)
	}
	return nil
}

// Unbind takes a function from its driver and leaves it with none. An override
// is kept.
func (h *Host) Unbind(ctx context.Context, a Address) error {
	current, err := h.Driver(a)
	if err != nil || current == "" {
		return err
	}
	if err := h.unbind(ctx, a, current); err != nil {
		return fmt.Errorf("unbind %s from %s: %w", a, current, err)
	}
	return nil
}

// override sets driver_override; "" clears it, which the kernel wants as an
// empty line.
func (h *Host) override(ctx context.Context, a Address, driver string) error {
	return h.write(ctx, device(a, "driver_override"), driver+"\n")
}

func (h *Host) unbind(ctx context.Context, a Address, driver string) error {
	err := h.write(ctx, "sys/bus/pci/drivers/"+driver+"/unbind", a.String())
	if errors.Is(err, syscall.ENODEV) { // not bound to it any more
		return nil
	}
	return err
}

// reprobe unbinds a function from its present driver, if any, and has the
// kernel look for one anew.
func (h *Host) reprobe(ctx context.Context, a Address, current string) error {
	if current != "" {
		if err := h.unbind(ctx, a, current); err != nil {
			return err
		}
	}
	err := h.write(ctx, "sys/bus/pci/drivers_probe", a.String())
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENODEV) {
		// No driver takes the device, which is no error here: callers read what is bound.
		if h.fs.Exists(device(a, "")) {
			return nil
		}
		return fmt.Errorf("%s: %w", a, ErrNoDevice)
	}
	return err
}

// IOMMUGroup reads the number of a function's IOMMU group, as text, for it only
// ever becomes part of a path; ok is false without an IOMMU.
func (h *Host) IOMMUGroup(a Address) (group string, ok bool, err error) {
	return h.fs.LinkBase(device(a, "iommu_group"))
}

// DeviceNode is a character device that a process opens to drive a function
// from user space. Both paths are the node's own, without the Host's root.
type DeviceNode struct {
	Host      string // where it is on the host
	Container string // where a process in a container expects it
}

// VFIONode is the group node of a function bound to vfio-pci. Without an IOMMU
// the host calls it /dev/vfio/noiommu-N while DPDK and the like look for
// /dev/vfio/N. The error wraps fs.ErrNotExist if the function has no group.
func (h *Host) VFIONode(a Address) (DeviceNode, error) {
	group, ok, err := h.IOMMUGroup(a)
	if err != nil {
		return DeviceNode{}, err
	}
	if !ok {
		return DeviceNode{}, fmt.Errorf("%s has no IOMMU group; is the IOMMU on, or vfio's enable_unsafe_noiommu_mode? %w", a, fs.ErrNotExist)
	}
	node := DeviceNode{Host: "/dev/vfio/" + group, Container: "/dev/vfio/" + group}
	name, _, err := h.fs.OptionalAttr("sys/kernel/iommu_groups/" + group + "/name")
	if name == "vfio-noiommu" {
		node.Host = "/dev/vfio/noiommu-" + group
	}
	return node, err
}

// UIONode is the node of a function bound to a uio driver. The error wraps
// fs.ErrNotExist if it has none.
func (h *Host) UIONode(a Address) (DeviceNode, error) {
	names, err := h.fs.Names(device(a, "uio"))
	if err != nil {
		return DeviceNode{}, err
	}
	if len(names) == 0 {
		return DeviceNode{}, fmt.Errorf("%s has no uio device: %w", a, fs.ErrNotExist)
	}
	return DeviceNode{Host: "/dev/" + names[0], Container: "/dev/" + names[0]}, nil
}
