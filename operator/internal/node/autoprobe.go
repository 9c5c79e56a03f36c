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

// Left to itself, the kernel gives each VF that it makes to its own driver, one after
// the other, and a netdev with it. Where VFs are for user space that is work to no
// end, and undoing it takes longer than all the rest: a netdev waits for everybody who
// might be using it. Such VFs are made without drivers (sriov_drivers_autoprobe off).

// bareDir, below the host's root, has a file for each PF whose probing this daemon
// switched off. It is there for no longer than the switch: both end with a reboot.
const bareDir = runDir + "/bare"

// bare reports whether the VFs of a PF should be made without drivers: each of them gets
// one by a step of its own, and some get one for user space.
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

// createBare makes VFs without drivers, unless the kernel cannot do that.
func (m *Machine) createBare(ctx context.Context, pf libsriov.Address, n int) error {
	on, err := m.Host.Autoprobe(pf)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !on { // before Linux 4.13, or the admin's choice
		return m.Host.SetNumVFs(ctx, pf, n)
	} else if err != nil {
		return err
	}
	if err := m.Files.markBare(pf); err != nil { // first: the daemon that starts after a crash has to know
		return err
	}
	err = m.Host.SetAutoprobe(ctx, pf, false)
	if err == nil {
		err = m.Host.SetNumVFs(ctx, pf, n)
	}
	return errors.Join(err, m.probeAgain(context.WithoutCancel(ctx), pf))
}

// probeAgain ends what createBare began.
func (m *Machine) probeAgain(ctx context.Context, pf libsriov.Address) error {
	if err := m.Host.SetAutoprobe(ctx, pf, true); err != nil {
		return err
	}
	return m.Files.unmarkBare(pf)
}

// mend undoes what a daemon left that was killed inside createBare. The VFs it made
// may be wanted for something else by now: they get the driver of the kernel's choice.
func (m *Machine) mend(ctx context.Context, pf libsriov.Address) error {
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

// bindOrLeave gives a VF to a driver for user space, or leaves it to the kernel.
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
