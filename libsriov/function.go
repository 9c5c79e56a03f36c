// SPDX-License-Identifier: Apache-2.0

package libsriov

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/sriovkit/sriovkit/libsriov/value"
)

// ID is a vendor or device number. It prints as the PCI database spells it:
// four lower-case hexadecimal digits.
type ID uint16

func (id ID) String() string { return fmt.Sprintf("%04x", uint16(id)) }

// Class is the 24-bit class code: base class, sub-class, programming interface.
type Class uint32

// Base classes that this package looks at (PCI Code and ID Assignment, 1.1).
const (
	ClassNetwork     = 0x02
	ClassAccelerator = 0x12
)

// Base is the base class, e.g. ClassNetwork.
func (c Class) Base() uint8 { return uint8(c >> 16) }

func (c Class) String() string { return fmt.Sprintf("%06x", uint32(c)) }

// Function is one PCI function as sysfs tells it.
type Function struct {
	Address Address
	Class   Class

	Vendor, Device                   ID
	SubsystemVendor, SubsystemDevice ID

	Driver string // bound driver; "" if none

	// NUMANode is the node whose memory is near (numa_node); -1 if the
	// firmware does not say.
	NUMANode int

	// Netdevs are the interfaces of this function that are visible in the
	// network namespace that sysfs was mounted in. One that moved into a pod
	// is not among them: see package link. On a PF in switchdev mode they
	// include the representors: see [Host.Uplink].
	Netdevs []string

	RDMA []string // RDMA devices, e.g. "mlx5_2"
	VDPA []string // vDPA devices, e.g. "vdpa0"; facts in package vdpa
	Aux  []Aux    // sub-functions and the like on the auxiliary bus
}

// Aux is a device on the auxiliary bus below a PCI function
// (https://docs.kernel.org/driver-api/auxiliary_bus.html).
type Aux struct {
	Name    string   // e.g. "mlx5_core.sf.4": driver, kind, id
	Netdevs []string // as in Function
	RDMA    []string
}

// Kind is the middle part of the name: "sf" for a sub-function.
func (a Aux) Kind() string {
	parts := strings.Split(a.Name, ".")
	if len(parts) != 3 {
		return ""
	}
	return parts[1]
}

// VF is a virtual function together with its place among its PF's.
type VF struct {
	Function
	PF    Address
	Index int // N of the PF's virtfnN link and of netlink's IFLA_VF_* attributes
}

// PF is a function with the SR-IOV capability.
type PF struct {
	Function
	TotalVFs int // sriov_totalvfs: the most that SetNumVFs accepts
	NumVFs   int // sriov_numvfs: how many exist
	VFs      []VF
}

// Function reads one PCI function. The error wraps ErrNoDevice if it is not
// there.
func (h *Host) Function(a Address) (Function, error) {
	f, err := h.function(a)
	if err != nil {
		return Function{}, err
	}
	if f.NUMANode, err = h.numaNode(a); err != nil {
		return Function{}, err
	}
	return f, h.readChildren(&f)
}

// function reads what uevent tells.
func (h *Host) function(a Address) (Function, error) {
	text, err := h.fs.Attr(device(a, "uevent"))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s: %w", a, ErrNoDevice)
		}
		return Function{}, err
	}
	f, err := parseUevent(text)
	if err != nil {
		return Function{}, fmt.Errorf("uevent of %s: %w", a, err)
	}
	f.Address, f.NUMANode = a, -1
	return f, nil
}

// parseUevent reads the KEY=value lines that pci_uevent in the kernel's
// drivers/pci/pci-driver.c writes.
func parseUevent(lines string) (Function, error) {
	var f Function
	var class, id bool
	for line := range strings.Lines(lines) {
		key, text, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
		var err error
		switch key {
		case "DRIVER":
			if strings.ContainsAny(text, "/\x00") || text == "." || text == ".." {
				err = ErrMalformed
			}
			f.Driver = text
		case "PCI_CLASS":
			var n uint64
			n, class = value.ParseHex(text, 0xffffff)
			f.Class = Class(n)
		case "PCI_ID":
			f.Vendor, f.Device, err = parseIDPair(text)
			id = true
		case "PCI_SUBSYS_ID":
			f.SubsystemVendor, f.SubsystemDevice, err = parseIDPair(text)
		}
		if err != nil {
			return Function{}, fmt.Errorf("%w: %s=%.40q", ErrMalformed, key, text)
		}
	}
	if !class || !id {
		return Function{}, fmt.Errorf("%w: no class or no id in it", ErrMalformed)
	}
	return f, nil
}

func parseIDPair(s string) (ID, ID, error) {
	first, second, ok := strings.Cut(s, ":")
	a, ok1 := value.ParseHex(first, 0xffff)
	b, ok2 := value.ParseHex(second, 0xffff)
	if !ok || !ok1 || !ok2 {
		return 0, 0, ErrMalformed
	}
	return ID(a), ID(b), nil
}

func (h *Host) numaNode(a Address) (int, error) {
	text, ok, err := h.fs.OptionalAttr(device(a, "numa_node"))
	if err != nil || !ok {
		return -1, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < -1 {
		return -1, fmt.Errorf("numa_node of %s: %w: %.40q", a, ErrMalformed, text)
	}
	return n, nil
}

// PF reads one physical function with its VFs. The error wraps ErrNotPF if the
// function has no SR-IOV capability, ErrNoDevice if it is not there. VFs that
// cannot be read are left out and reported in the error, as in [Host.Snapshot].
func (h *Host) PF(a Address) (PF, error) {
	f, err := h.Function(a)
	if err != nil {
		return PF{}, err
	}
	pf, err := h.sriov(f)
	if err != nil {
		return PF{}, err
	}
	var errs []error
	for i := range pf.NumVFs {
		vf, err := h.vfAt(a, i)
		if err == nil {
			vf.Function, err = h.Function(vf.Address)
		}
		if err != nil {
			errs = append(errs, &DeviceError{Device: a.String(), Err: err})
			continue
		}
		pf.VFs = append(pf.VFs, vf)
	}
	return pf, errors.Join(errs...)
}

// sriov reads a function's SR-IOV capability, but not its VFs.
func (h *Host) sriov(f Function) (PF, error) {
	total, err := h.fs.Int(device(f.Address, "sriov_totalvfs"))
	if errors.Is(err, fs.ErrNotExist) {
		return PF{}, fmt.Errorf("%s: %w", f.Address, ErrNotPF)
	}
	if err != nil {
		return PF{}, err
	}
	n, err := h.NumVFs(f.Address)
	if err != nil {
		return PF{}, err
	}
	if n < 0 || n > 0xffff {
		return PF{}, fmt.Errorf("sriov_numvfs of %s: %w: %d", f.Address, ErrMalformed, n)
	}
	return PF{Function: f, TotalVFs: total, NumVFs: n}, nil
}

// VFDevice reads the device number that the VFs of a PF have or would have
// (sriov_vf_device). ok is false if the kernel does not say.
func (h *Host) VFDevice(pf Address) (id ID, ok bool, err error) {
	text, ok, err := h.fs.OptionalAttr(device(pf, "sriov_vf_device"))
	if err != nil || !ok {
		return 0, false, err
	}
	n, ok := value.ParseHex(text, 0xffff)
	if !ok {
		return 0, false, fmt.Errorf("sriov_vf_device of %s: %w: %.40q", pf, ErrMalformed, text)
	}
	return ID(n), true, nil
}

// vfAt follows the PF's link to VF i and fills in address, PF and index.
func (h *Host) vfAt(pf Address, i int) (VF, error) {
	name := "virtfn" + strconv.Itoa(i)
	base, ok, err := h.fs.LinkBase(device(pf, name))
	switch {
	case err != nil:
		return VF{}, err
	case !ok:
		return VF{}, fmt.Errorf("%s is missing: %w", name, ErrNoDevice)
	}
	a, err := ParseAddress(base)
	if err != nil {
		return VF{}, fmt.Errorf("%s: %w", name, err)
	}
	return VF{Function: Function{Address: a}, PF: pf, Index: i}, nil
}

// VF reads one virtual function and finds its index. The error wraps ErrNotVF
// if no PF is in sight, ErrNoDevice if the function is not there.
func (h *Host) VF(a Address) (VF, error) {
	f, err := h.Function(a)
	if err != nil {
		return VF{}, err
	}
	base, ok, err := h.fs.LinkBase(device(a, "physfn"))
	if err != nil {
		return VF{}, err
	}
	if !ok {
		return VF{}, fmt.Errorf("%s: %w", a, ErrNotVF)
	}
	pf, err := ParseAddress(base)
	if err != nil {
		return VF{}, fmt.Errorf("physfn of %s: %w", a, err)
	}
	i, err := h.vfIndex(pf, a)
	if err != nil {
		return VF{}, err
	}
	return VF{Function: f, PF: pf, Index: i}, nil
}

// vfIndex computes the index from the capability's offset and stride and checks
// it against the PF's link; only where the two disagree are all links read.
func (h *Host) vfIndex(pf, vf Address) (int, error) {
	is := func(i int) bool {
		got, err := h.vfAt(pf, i)
		return err == nil && got.Address == vf
	}
	offset, oerr := h.fs.Int(device(pf, "sriov_offset"))
	stride, serr := h.fs.Int(device(pf, "sriov_stride"))
	if oerr == nil && serr == nil && stride > 0 {
		if i := (int(vf.RoutingID()) - int(pf.RoutingID()) - offset) / stride; i >= 0 && is(i) {
			return i, nil
		}
	}
	n, err := h.NumVFs(pf)
	if err != nil {
		return 0, err
	}
	for i := range min(n, 0xffff) {
		if is(i) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%s is not among the VFs of its PF %s: %w", vf, pf, ErrNotVF)
}
