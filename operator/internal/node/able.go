// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/libsriov"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// checkFeasible returns why a work cannot succeed, as far as that is visible without changing
// hardware; it may load modules. It is called before a node is drained for the work.
func (m *Machine) checkFeasible(ctx context.Context, w plan.Work) error {
	if err := m.Files.checkWritable(); err != nil {
		return err
	}
	if w.PF == "" {
		return nil
	}
	addr, err := libsriov.ParseAddress(w.PF)
	if err != nil {
		return err
	}
	var errs []error
	user, vdpa := false, false
	for _, s := range w.Steps {
		switch {
		case s.Op == plan.OpRemove || s.Op == plan.OpCreate:
			path := filepath.Join(m.Files.Root, "sys/bus/pci/devices", w.PF, "sriov_numvfs")
			if err := unix.Access(path, unix.W_OK); err != nil {
				errs = append(errs, fmt.Errorf("write %s: %w", path, err))
			}
		case s.Op == plan.OpBind && s.Driver != "":
			user = true
		case s.Op == plan.OpVDPA && s.Mode != "":
			vdpa = true
		}
	}
	if user {
		errs = append(errs, m.checkBind(ctx, addr))
	}
	if vdpa {
		errs = append(errs, m.checkVDPA(ctx, addr, w.Steps))
	}
	return errors.Join(errs...)
}

// checkBind returns why VFs of a PF cannot be bound to vfio-pci, nil if they can.
func (m *Machine) checkBind(ctx context.Context, addr libsriov.Address) error {
	pf, err := m.Host.PF(addr)
	if errors.Is(err, libsriov.ErrNotPF) { // a function in a virtual machine: see bindUser
		return m.loadModule(ctx, v1.DeviceTypeVFIO)
	} else if err != nil {
		return err
	}
	if _, iommu, err := m.Host.IOMMUGroup(pf.Address); err != nil {
		return err
	} else if !iommu {
		return fmt.Errorf("%s needs an IOMMU and %s is in no IOMMU group: %s", v1.DeviceTypeVFIO, addr, iommuAdvice)
	}
	return m.loadModule(ctx, v1.DeviceTypeVFIO)
}

const iommuAdvice = "switch it on in the firmware and boot with intel_iommu=on or amd_iommu=on"
