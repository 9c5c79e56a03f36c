// SPDX-License-Identifier: Apache-2.0

// Package vf looks at one VF of the host: what sysfs says of it, what its PF
// enforces, where its interface is, and whether it is for pods at all.
package vf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/value"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/sriovkit/sriovkit/sriov-cni/internal/file"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
)

// Host is the host as this plugin sees it.
type Host struct {
	Root string // of sysfs and proc; "/" but in tests
	Node NodeConfig

	sysfs *libsriov.Host
	boot  *string // the boot's ID, once it is read
}

// Open opens the host whose file systems are below root.
func Open(root string, node NodeConfig) (*Host, error) {
	sysfs, err := libsriov.Open(root)
	return &Host{Root: root, Node: node, sysfs: sysfs}, err
}

func (h *Host) path(name string) string { return filepath.Join(h.Root, name) }

// NetNS opens the host's own network namespace.
func (h *Host) NetNS() (*os.File, error) { return file.Open(h.NetNSPath(), syscall.O_RDONLY, 0) }

// NetNSPath is where the host's own network namespace is.
func (h *Host) NetNSPath() string { return h.path("proc/self/ns/net") }

// Device is a VF as sysfs shows it.
type Device struct {
	libsriov.Address
	Driver    string
	Netdev    string   // its interface in the host's namespace; "" if there is none
	Netdevs   []string // all of them, where the function has several
	Userspace bool     // driven by a program: there is no interface to move
	Physfn    bool     // sysfs shows the PF that it is a VF of
	Index     int      // among the PF's VFs
	PF        *PF      // nil: no PF in sight, as inside a virtual machine
}

// PF is the interface through which a PF is told about its VFs.
type PF struct {
	libsriov.Address
	Driver  string
	Name    string
	IfIndex int
}

// Idle reports whether nothing of the kernel's drives the VF, so that there is no
// interface to wait for.
func (d Device) Idle() bool { return d.Driver == "" || d.Userspace }

// Look reads what sysfs says about a VF. ErrNoDevice stays reachable.
func (h *Host) Look(a libsriov.Address) (Device, error) {
	vf, err := h.sysfs.VF(a)
	fn, isVF := vf.Function, true
	if errors.Is(err, libsriov.ErrNotVF) { // a PF, or a VF without a PF in sight
		isVF = false
		fn, err = h.sysfs.Function(a)
	}
	if err != nil {
		return Device{}, h.NoDevice(a, err)
	}
	d := Device{Address: a, Driver: fn.Driver, Netdevs: fn.Netdevs, Physfn: isVF}
	if len(fn.Netdevs) > 0 {
		d.Netdev = fn.Netdevs[0]
	}
	d.Userspace = d.Netdev == "" && (value.DriverKindOf(fn.Driver).Userspace() || h.usesVhost(fn.VDPA))
	if !isVF {
		if _, err := h.sysfs.NumVFs(a); err == nil {
			return d, cnierr.New(cnierr.Device,
				fmt.Errorf("failed to get VF information: %s/physfn/net: %s is a PF", h.path("sys/bus/pci/devices/"+a.String()), a),
				"deviceID must be the address of a VF; the device plugin must offer VFs, not this PF")
		}
		return d, nil
	}
	d.Index = vf.Index
	d.PF, err = h.lookPF(vf.PF)
	return d, err
}

// NoDevice is the error of a device that cannot be looked at.
func (h *Host) NoDevice(a libsriov.Address, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s: %w", a, libsriov.ErrNoDevice)
	}
	return cnierr.New(cnierr.Device, fmt.Errorf("failed to get VF information: %w", err),
		"deviceID must be the PCI address of a VF of this node, one of "+h.path("sys/bus/pci/devices"))
}

// lookPF finds the interface of a PF that is told about VFs. nil without an
// error is a PF that has none, for instance because it is bound to vfio-pci.
func (h *Host) lookPF(a libsriov.Address) (*PF, error) {
	fail := func(err error) error { return cnierr.New(cnierr.Device, fmt.Errorf("PF of the VF: %w", err), "") }
	fn, err := h.sysfs.Function(a)
	if err != nil {
		return nil, fail(err)
	}
	name, err := h.sysfs.Uplink(fn)
	if errors.Is(err, libsriov.ErrNoNetdev) && len(fn.Netdevs) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fail(err)
	}
	index, err := h.sysfs.NetdevIndex(a, name)
	if errors.Is(err, libsriov.ErrNoNetdev) {
		return nil, cnierr.Busy(fmt.Errorf("PF of the VF: %w", err), "its interface is being renamed or moved; the next try finds it")
	}
	if err != nil {
		return nil, fail(err)
	}
	return &PF{Address: a, Driver: fn.Driver, Name: name, IfIndex: index}, nil
}

// PFOf is the PF that a VF has, and the VF's index; nil if none is in sight.
func (h *Host) PFOf(a libsriov.Address) (*libsriov.Address, int) {
	vf, err := h.sysfs.VF(a)
	if err != nil {
		return nil, 0
	}
	return &vf.PF, vf.Index
}

// usesVhost reports whether one of a function's vDPA devices is handed to
// programs (bound to vhost_vdpa) instead of driving an interface.
func (h *Host) usesVhost(vdpa []string) bool {
	for _, name := range vdpa {
		target, err := os.Readlink(h.path("sys/bus/vdpa/devices/" + name + "/driver"))
		if err == nil && strings.HasSuffix(target, "/vhost_vdpa") {
			return true
		}
	}
	return false
}

// Identify reads a function's identity; fs.ErrNotExist if it is gone.
func (h *Host) Identify(a libsriov.Address) (state.Identity, error) {
	if h.boot == nil {
		boot, err := file.Read(h.path("proc/sys/kernel/random/boot_id"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return state.Identity{}, err
		}
		h.boot = new(strings.TrimSpace(string(boot)))
	}
	info, err := os.Stat(h.path("sys/bus/pci/devices/" + a.String()))
	if err != nil {
		return state.Identity{}, err
	}
	id := state.Identity{Boot: *h.boot}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.Inode = st.Ino
	}
	return id, nil
}

// read reads an interface that sysfs named for a function. Meanwhile it may have been
// renamed, as udev does with new ones, and another have the name: so it goes by the
// function's own index. The error wraps link.ErrNotFound if it is gone.
func (h *Host) read(host *link.Conn, a libsriov.Address, name string) (link.Link, error) {
	index, err := h.sysfs.NetdevIndex(a, name)
	if errors.Is(err, libsriov.ErrNoNetdev) {
		return link.Link{}, fmt.Errorf("%w: %w", err, link.ErrNotFound)
	}
	if err != nil {
		return link.Link{}, err
	}
	return host.ByIndex(index)
}

// Admin reads what the PF enforces for the VF; zero without a PF. While the VF
// resets, some drivers leave it out of what they report: then it waits. The error
// wraps [link.ErrNoVFSettings] if the driver has no settings of VFs, and
// [link.ErrNoVFReported] if it fails for each of them, which some drivers always do: with
// needed false it waits a shorter time for that to pass.
func (d Device) Admin(ctx context.Context, host *link.Conn, needed bool) (s vfstate.State, err error) {
	if d.PF == nil {
		return s, nil
	}
	patience := Patience
	s, err = host.VFState(d.PF.IfIndex, d.Index)
	if errors.Is(err, link.ErrNoVFReported) && !needed {
		patience = nonePatience
	}
	if isMissing(err) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		err = Patiently(ctx, nil, isMissing, func() (err error) {
			s, err = host.VFState(d.PF.IfIndex, d.Index)
			return err
		})
	}
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, link.ErrNoVFSettings):
		return s, fmt.Errorf("PF %s (%s): %w", d.PF.Name, d.PF.Driver, err)
	case isMissing(err):
		return s, cnierr.Busy(fmt.Errorf("failed to get VF information: PF %s (%s), after %s: %w", d.PF.Name, d.PF.Driver, patience, err),
			cmp.Or(d.pfTrouble(host), "the VF resets, or its driver hangs; see the kernel's log"))
	}
	return s, cnierr.New(cnierr.Device, fmt.Errorf("failed to get VF information: PF %s (%s): %w", d.PF.Name, d.PF.Driver, err), "")
}

func isMissing(err error) bool {
	return errors.Is(err, link.ErrNoVF) && !errors.Is(err, link.ErrNoVFSettings)
}

// SetAdmin has the PF enforce a state. While the VF resets, which with some
// drivers each setting causes, the PF refuses the next: then it waits.
func (d Device) SetAdmin(ctx context.Context, host *link.Conn, s vfstate.State) error {
	for left := s; !left.IsZero(); {
		err := host.SetVF(d.PF.IfIndex, d.Index, left)
		if !IsBusy(err) {
			return err
		}
		// What is in force already is not written again: it would cause a reset more.
		have, readErr := d.Admin(ctx, host, true)
		if readErr != nil {
			return errors.Join(err, readErr)
		}
		next := vfstate.Diff(have, left).Split()
		if len(next) == 0 {
			return nil
		}
		err = Patiently(ctx, nil, IsBusy, func() error { return host.SetVF(d.PF.IfIndex, d.Index, next[0].State) })
		if err != nil {
			return err
		}
		left = vfstate.State{}
		for _, p := range next[1:] {
			left = left.With(p.State)
		}
	}
	return nil
}

// SetUnseen has a PF that reports none of its VFs enforce a state, each part by itself. A
// driver without a setting has nothing of it to take back.
func (d Device) SetUnseen(host *link.Conn, s vfstate.State) error {
	for _, p := range s.Split() {
		err := host.SetVF(d.PF.IfIndex, d.Index, p.State)
		if err != nil && !errors.Is(err, syscall.EOPNOTSUPP) && !errors.Is(err, syscall.EPERM) {
			return err
		}
	}
	return nil
}

// Hint explains a refusal by the PF.
func (d Device) Hint(host *link.Conn, cause error) string {
	if d.PF == nil {
		return ""
	}
	if trouble := d.pfTrouble(host); trouble != "" {
		return trouble
	}
	switch {
	case errors.Is(cause, syscall.EOPNOTSUPP):
		return "leave the setting out of the network's configuration, or use another kind of NIC"
	case IsBusy(cause):
		return "the VF still resets after " + Patience.String() + "; see the kernel's log"
	}
	return ""
}

// pfTrouble says what keeps a PF from doing what it is told, "" if nothing is seen.
func (d Device) pfTrouble(host *link.Conn) string {
	switch l, err := host.ByIndex(d.PF.IfIndex); {
	case err == nil && !l.Up():
		return "the PF " + l.Name + " is down; set it up"
	case err == nil && !l.Carrier():
		return "the PF " + l.Name + " has no link, and some drivers accept a rate only with one; look at its cable"
	}
	return ""
}
