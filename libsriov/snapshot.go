// SPDX-License-Identifier: Apache-2.0

package libsriov

import (
	"errors"
	"fmt"
	"io/fs"
)

// Snapshot is every network and accelerator function of a host at one time.
type Snapshot struct {
	PFs []PF // functions with the SR-IOV capability, by address, each with its VFs
	// Functions are all others, by address: devices without SR-IOV, and VFs
	// whose PF is not in sight, as inside a virtual machine.
	Functions []Function
	// VFs are those whose PF is of a class that is not listed here, by address.
	VFs []VF
}

// Snapshot reads the host. The cost is about three system calls for each PCI
// device of any class (one read of its uevent), one for each VF and each
// network interface, and ten for each PF; nothing is quadratic.
//
// A device that cannot be read, also because it goes away meanwhile, is left
// out. The error then joins one [*DeviceError] for each of them, and the
// snapshot is good for all others. An error that wraps [ErrNoSnapshot] means that
// nothing is known: a list of devices could not be read, or is not there.
func (h *Host) Snapshot() (Snapshot, error) {
	const bus = "sys/bus/pci/devices"
	names, err := h.fs.Names(bus)
	if err == nil && len(names) == 0 && !h.fs.Exists(bus) { // Names takes a missing directory for an empty one
		err = &fs.PathError{Op: "open", Path: h.fs.Path(bus), Err: fs.ErrNotExist}
	}
	if err != nil {
		return Snapshot{}, fmt.Errorf("%w: %w", ErrNoSnapshot, err)
	}
	var s scan
	s.functions = make(map[Address]*Function, len(names))
	for _, name := range names {
		a, err := ParseAddress(name)
		if err != nil {
			s.broken(name, err)
			continue
		}
		f, err := h.function(a)
		if err != nil {
			s.broken(name, err)
			continue
		}
		if base := f.Class.Base(); base == ClassNetwork || base == ClassAccelerator {
			s.functions[a] = &f
			s.order = append(s.order, a)
		}
	}
	if err := s.children(h); err != nil {
		return Snapshot{}, fmt.Errorf("%w: %w", ErrNoSnapshot, err)
	}
	s.pair(h)
	return s.result(h), errors.Join(s.errs...)
}

// scan is what Snapshot has read so far.
type scan struct {
	order     []Address // as the directory lists them: by address
	functions map[Address]*Function
	pfs       []PF
	owned     map[Address]bool // VFs that a PF lists
	isPF      map[Address]bool // also those that cannot be read
	errs      []error
}

func (s *scan) broken(device string, err error) {
	s.errs = append(s.errs, &DeviceError{Device: device, Err: err})
}

// pair finds the PFs and takes their VFs out of the list of functions.
func (s *scan) pair(h *Host) {
	s.owned, s.isPF = map[Address]bool{}, map[Address]bool{}
	for _, a := range s.order {
		if s.owned[a] {
			continue // a VF has no SR-IOV capability of its own
		}
		pf, err := h.sriov(*s.functions[a])
		if errors.Is(err, ErrNotPF) {
			continue
		}
		delete(s.functions, a)
		s.isPF[a] = true
		if err != nil {
			s.broken(a.String(), err)
			continue
		}
		if pf.NUMANode, err = h.numaNode(a); err != nil { // -1: not known
			s.broken(a.String(), err)
		}
		s.listVFs(h, &pf)
		s.pfs = append(s.pfs, pf)
	}
}

func (s *scan) listVFs(h *Host, pf *PF) {
	pf.VFs = make([]VF, 0, pf.NumVFs)
	for i := range pf.NumVFs {
		vf, err := h.vfAt(pf.Address, i)
		if err != nil {
			s.broken(pf.Address.String(), err)
			continue
		}
		f, ok := s.functions[vf.Address]
		if !ok {
			s.broken(vf.Address.String(), fmt.Errorf("VF %d of %s cannot be read: %w", i, pf.Address, ErrNoDevice))
			continue
		}
		vf.Function = *f
		// A VF sits where its PF sits: the kernel gives its bus the PF's node.
		vf.NUMANode = pf.NUMANode
		s.owned[vf.Address] = true
		pf.VFs = append(pf.VFs, vf)
	}
}

// result keeps the functions that are no PF and no VF of one.
func (s *scan) result(h *Host) Snapshot {
	out := Snapshot{PFs: s.pfs}
	for _, a := range s.order {
		f, ok := s.functions[a]
		if !ok || s.owned[a] {
			continue
		}
		// A VF that its PF does not list must not pass for a whole device.
		pf, isVF, err := h.fs.LinkBase(device(a, "physfn"))
		if err != nil {
			s.broken(a.String(), err)
			continue
		}
		if f.NUMANode, err = h.numaNode(a); err != nil {
			s.broken(a.String(), err)
		}
		if !isVF {
			out.Functions = append(out.Functions, *f)
			continue
		}
		vf, err := s.foreignVF(h, *f, pf)
		if err != nil {
			s.broken(a.String(), err)
			continue
		}
		out.VFs = append(out.VFs, vf)
	}
	return out
}

// foreignVF finds the place of a VF among those of a PF that is not in the list: its class
// is another one.
func (s *scan) foreignVF(h *Host, f Function, pf string) (VF, error) {
	parent, err := ParseAddress(pf)
	if err != nil {
		return VF{}, fmt.Errorf("physfn: %w", err)
	}
	if s.isPF[parent] {
		return VF{}, fmt.Errorf("its PF %s does not list it: %w", pf, ErrNotVF)
	}
	i, err := h.vfIndex(parent, f.Address)
	return VF{Function: f, PF: parent, Index: i}, err
}
