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
}

// Snapshot reads the host. The cost is about three system calls for each PCI
// device of any class (one read of its uevent), one for each VF and each
// network interface, and ten for each PF; nothing is quadratic.
//
// A device that cannot be read, also because it goes away meanwhile, is left
// out. The error then joins one [*DeviceError] for each of them, and the
// snapshot is good for all others.
func (h *Host) Snapshot() (Snapshot, error) {
	names, err := h.fs.Names("sys/bus/pci/devices")
	if err != nil {
		return Snapshot{}, err
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
	s.children(h)
	s.pair(h)
	return s.result(h), errors.Join(s.errs...)
}

// scan is a snapshot in the making.
type scan struct {
	order     []Address // as the directory lists them: by address
	functions map[Address]*Function
	pfs       []PF
	owned     map[Address]bool // VFs that a PF lists
	errs      []error
}

func (s *scan) broken(device string, err error) {
	s.errs = append(s.errs, &DeviceError{Device: device, Err: err})
}

// pair finds the PFs and takes their VFs out of the list of functions.
func (s *scan) pair(h *Host) {
	s.owned = map[Address]bool{}
	for _, a := range s.order {
		if s.owned[a] {
			continue // a VF has no SR-IOV capability of its own
		}
		pf, err := h.sriov(*s.functions[a])
		if errors.Is(err, ErrNotPF) {
			continue
		}
		delete(s.functions, a)
		if err == nil {
			pf.NUMANode, err = h.numaNode(a)
		}
		if err != nil {
			s.broken(a.String(), err)
			continue
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
		switch pf, isVF, err := h.fs.LinkBase(device(a, "physfn")); {
		case err != nil:
			s.broken(a.String(), err)
			continue
		case isVF:
			s.broken(a.String(), fmt.Errorf("its PF %s does not list it: %w", pf, ErrNotVF))
			continue
		}
		var err error
		if f.NUMANode, err = h.numaNode(a); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.broken(a.String(), err)
			continue
		}
		out.Functions = append(out.Functions, *f)
	}
	return out
}
