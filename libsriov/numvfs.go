// SPDX-License-Identifier: Apache-2.0

package libsriov

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"syscall"
)

// NumVFs reads how many VFs a PF has (sriov_numvfs). It is ErrNotPF for a
// function without the SR-IOV capability.
func (h *Host) NumVFs(pf Address) (int, error) {
	n, err := h.fs.Int(device(pf, "sriov_numvfs"))
	if errors.Is(err, fs.ErrNotExist) {
		if !h.fs.Exists(device(pf, "")) {
			return 0, fmt.Errorf("%s: %w", pf, ErrNoDevice)
		}
		return 0, fmt.Errorf("%s: %w", pf, ErrNotPF)
	}
	return n, err
}

// SetNumVFs creates n VFs on a PF, or removes all with 0. The kernel accepts a
// new count only where there are none (ErrVFsInUse otherwise), and no more than
// sriov_totalvfs (ErrTooManyVFs); asking for the present count does nothing.
//
// Drivers take from milliseconds to minutes for this, and the write cannot be
// taken back. When ctx ends first, SetNumVFs returns and names the write that
// goes on in the background; read NumVFs before another try.
func (h *Host) SetNumVFs(ctx context.Context, pf Address, n int) error {
	have, err := h.NumVFs(pf)
	switch {
	case err != nil:
		return err
	case n < 0:
		return fmt.Errorf("set %d VFs on %s: the count cannot be negative", n, pf)
	case have == n:
		return nil
	case have != 0 && n != 0:
		return fmt.Errorf("set %d VFs on %s, which has %d: %w", n, pf, have, ErrVFsInUse)
	}
	total, err := h.fs.Int(device(pf, "sriov_totalvfs"))
	if err != nil {
		return err
	}
	if n > total {
		return fmt.Errorf("set %d VFs on %s, which offers %d: %w", n, pf, total, ErrTooManyVFs)
	}
	err = h.write(ctx, device(pf, "sriov_numvfs"), strconv.Itoa(n))
	if errors.Is(err, syscall.EBUSY) { // somebody else was quicker, or a VF is held by a guest
		err = fmt.Errorf("%w: %w", ErrVFsInUse, err)
	}
	if err != nil {
		return fmt.Errorf("set %d VFs on %s: %w", n, pf, err)
	}
	return nil
}

// Autoprobe reports whether the kernel looks for a driver for each new VF of a
// PF (sriov_drivers_autoprobe).
func (h *Host) Autoprobe(pf Address) (bool, error) {
	n, err := h.fs.Int(device(pf, "sriov_drivers_autoprobe"))
	if err != nil {
		return false, fmt.Errorf("autoprobe of %s: %w", pf, err)
	}
	return n != 0, nil
}

// SetAutoprobe sets what Autoprobe reads. Off, VFs come up without a driver and
// the kernel refuses a plain bind; [Host.BindDriver] still works.
func (h *Host) SetAutoprobe(ctx context.Context, pf Address, on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	if err := h.write(ctx, device(pf, "sriov_drivers_autoprobe"), value); err != nil {
		return fmt.Errorf("set autoprobe of %s: %w", pf, err)
	}
	return nil
}

// write stores a value in an attribute and returns early when ctx ends. The goroutine that is
// then left inside write(2) ends when the driver returns.
func (h *Host) write(ctx context.Context, path, value string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- h.fs.Write(path, value) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("write of %q to %s still under way in the kernel: %w", value, h.fs.Path(path), context.Cause(ctx))
	}
}
