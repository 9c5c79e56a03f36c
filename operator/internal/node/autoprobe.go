// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// By default the kernel binds each new VF to its network driver, one after the other, and
// creates a netdev for it. For VFs that are meant for user space this is wasted, and it is
// slow to undo: unregistering a netdev waits for all its users. Such VFs are created
// without drivers, called bare here, by means of sriov_drivers_autoprobe
// (https://docs.kernel.org/admin-guide/abi-testing.html).

// bareDir, below the host's root, has a file for each PF whose autoprobe the daemon has
// switched off. It is not kept over a reboot, which switches autoprobe on again.
const bareDir = runDir + "/bare"

// bare reports whether the VFs of a PF should be created without drivers: the steps bind
// each of them, and at least one of them to a user-space driver.
func bare(steps []plan.Step) bool {
	created, bound, user := 0, 0, false
	for _, s := range steps {
		switch s.Op {
		case plan.OpCreate:
			created = s.Num
		case plan.OpBind:
			bound++
			user = user || s.Driver != ""
		}
	}
	return user && created == bound
}

// createBare creates VFs without drivers, where the kernel can do that.
func (m *Machine) createBare(ctx context.Context, pf libsriov.Address, n int) error {
	on, err := m.Host.Autoprobe(pf)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !on { // before Linux 4.13, or the admin's choice
		return m.Host.SetNumVFs(ctx, pf, n)
	} else if err != nil {
		return err
	}
	if err := m.Files.markBare(pf); err != nil { // first, so that recoverBare finds it after a crash
		return err
	}
	err = m.Host.SetAutoprobe(ctx, pf, false)
	if err == nil {
		err = m.Host.SetNumVFs(ctx, pf, n)
	}
	return errors.Join(err, m.probeAgain(context.WithoutCancel(ctx), pf))
}

// probeAgain switches autoprobe on and removes the mark.
func (m *Machine) probeAgain(ctx context.Context, pf libsriov.Address) error {
	if err := m.Host.SetAutoprobe(ctx, pf, true); err != nil {
		return err
	}
	return m.Files.unmarkBare(pf)
}

// recoverBare cleans up after a daemon that was killed inside createBare. VFs without a
// driver get the kernel's default driver, for the spec may have changed since.
func (m *Machine) recoverBare(ctx context.Context, pf libsriov.Address) error {
	if marked, err := m.Files.markedBare(pf); err != nil || !marked {
		return err
	}
	if err := m.probeAgain(ctx, pf); err != nil {
		return err
	}
	now, err := m.Host.PF(pf)
	for _, vf := range now.VFs {
		if vf.Driver == "" {
			err = errors.Join(err, m.Host.ResetDriver(ctx, vf.Address))
		}
	}
	return err
}

// bindOrLeave binds a VF to a user-space driver. If that fails and leaves the VF without
// a driver, the VF gets the kernel's default driver.
func (m *Machine) bindOrLeave(ctx context.Context, vf libsriov.Address, driver string, virtual bool) error {
	err := m.bindUser(ctx, vf, driver, virtual)
	if err == nil {
		return nil
	}
	undo := context.WithoutCancel(ctx)
	if now, lookErr := m.Host.Driver(vf); lookErr == nil && now == "" {
		err = errors.Join(err, m.Host.ResetDriver(undo, vf))
	}
	return err
}

func (f Files) bareMark(pf libsriov.Address) string {
	return filepath.Join(f.Root, bareDir, pf.String())
}

func (f Files) markBare(pf libsriov.Address) error {
	if err := os.MkdirAll(filepath.Join(f.Root, bareDir), 0o755); err != nil {
		return err
	}
	return os.WriteFile(f.bareMark(pf), nil, 0o600)
}

func (f Files) markedBare(pf libsriov.Address) (bool, error) {
	_, err := os.Stat(f.bareMark(pf))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (f Files) unmarkBare(pf libsriov.Address) error {
	if err := os.Remove(f.bareMark(pf)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
