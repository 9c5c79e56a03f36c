// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/value"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
	"github.com/sriovkit/sriovkit/sriov-cni/vf"
	"golang.org/x/sys/unix"
)

// Repairer restores VFs to how they were before ADD.
type Repairer struct {
	Host  *vf.Host
	Store state.Store
}

// work is the restoration of one VF: what is known of it, and what is still open.
type work struct {
	journal state.Journal
	device  vf.Device
	home    *link.Conn
	homeNS  *os.File
	from    *link.Conn // where the interface is
	fromNS  *os.File   // nil at home
	situation
}

// Restore brings a VF back to how its journal says it was. It may be called at
// any time by the holder of the VF's lock and does only what is left to do. With
// an error something is left; independent parts are done all the same.
func (r Repairer) Restore(ctx context.Context, j state.Journal) error {
	id, err := r.Host.Identify(j.Device)
	if errors.Is(err, fs.ErrNotExist) || err == nil && j.Identity.Inode != 0 && id != j.Identity {
		slog.Info("VF is gone, nothing to restore", "pci", j.Device)
		return nil
	}
	if err != nil {
		return err
	}
	w := &work{journal: j}
	defer w.close()
	if w.device, err = r.Host.Look(j.Device); err != nil {
		return err
	}
	// Where the interface is in some pod, the clock must have been set since the record was written.
	if j.FormerBoot && (w.device.Netdev != "" || w.device.Idle()) {
		slog.Info("the VF's record is of a boot before this one, nothing to restore", "pci", j.Device)
		return nil
	}
	if w.home, err = link.Open(nil); err != nil {
		return err
	}
	if w.homeNS, err = r.Host.NetNS(); err != nil {
		return err
	}
	w.Userspace = w.device.Idle()
	if err := w.readAdmin(ctx); err != nil {
		return err
	}
	if err := w.find(ctx, r.Host); err != nil {
		return err
	}
	return w.do(ctx)
}

func (w *work) close() {
	if w.from != nil && w.from != w.home {
		w.from.Close()
		w.fromNS.Close()
	}
	if w.home != nil {
		w.home.Close()
	}
	if w.homeNS != nil {
		w.homeNS.Close()
	}
}

// readAdmin reads what the PF enforces, if it is to be asked for anything.
func (w *work) readAdmin(ctx context.Context) (err error) {
	j := &w.journal
	switch {
	case j.PF == nil:
		return nil
	case w.device.PF != nil:
		w.Have, err = w.device.Admin(ctx, w.home, true)
		if errors.Is(err, link.ErrNoVFSettings) && j.Before.MAC == nil {
			j.PF = nil // whoever configured the VF had nothing of it to read either
			return nil
		}
		if errors.Is(err, link.ErrNoVFReported) && j.Guessed { // some drivers never do
			j.PF = nil
			if err = w.device.SetUnseen(w.home, j.Before); refused(err) {
				slog.Warn("the PF reports none of its VFs and does not take what is safe", "pci", j.Device, "err", err)
				err = nil
			}
			return w.resetFailed(err)
		}
		if j.Guessed {
			j.Before = j.Before.Restrict(w.Have)
		}
		return err
	case j.Want.IsZero() || j.Guessed:
		j.PF = nil // nothing was asked of it, and now nothing can be
		return nil
	}
	return cnierr.New(cnierr.Recover, fmt.Errorf("error reseting VF %s: its PF %s has no interface in the host's namespace", j.Device, j.PF),
		"bring the PF's interface back to the host; the VF is restored at the next try")
}

// find looks for the interface, wherever it is.
func (w *work) find(ctx context.Context, h *vf.Host) error {
	if w.journal.Link == nil || w.Userspace {
		return nil
	}
	found, err := h.Find(ctx, w.home, w.device, w.journal)
	switch {
	case errors.Is(err, link.ErrNotFound):
		return nil
	case err != nil:
		return err
	case found.Conn == nil:
		w.from, w.AtHome = w.home, true
	default:
		w.from, w.fromNS = found.Conn, found.NS
	}
	w.Link = &found.Link
	return nil
}

func (w *work) do(ctx context.Context) error {
	r := planRepair(w.journal, w.situation)
	var errs []error
	// Before the move: some drivers refuse the MAC without trust.
	if err := w.resetFailed(w.resetAdmin(ctx, r.Admin)); err != nil {
		errs = append(errs, err)
	}
	switch {
	case r.Lost:
		return errors.Join(append(errs, cnierr.New(cnierr.Recover, fmt.Errorf("interface of VF %s is in no network namespace in sight", w.device.Address),
			"a process may hold its namespace open, or the VF's driver ("+w.device.Driver+") has lost it"))...)
	case w.Link == nil:
		return errors.Join(errs...)
	}
	// That takes a while on some PFs, and until then the VF's driver may still have
	// been taking over what ADD had set. After a move it is looked at anyway.
	if !r.Move && !r.Admin.IsZero() {
		if l, err := w.home.ByIndex(w.Link.Index); err == nil {
			w.Link = &l
			verify := r.VerifyMAC
			r = planRepair(w.journal, w.situation)
			r.VerifyMAC = verify
		}
	}
	if err := w.restoreLink(ctx, r); err != nil {
		errs = append(errs, w.failed(err))
	}
	if r.VerifyMAC && len(errs) == 0 {
		errs = append(errs, w.verifyMAC(ctx))
	}
	return errors.Join(errs...)
}

// resetFailed is the error of a PF that does not take a setting back; nil for nil.
func (w *work) resetFailed(err error) error {
	if err == nil {
		return nil
	}
	return cnierr.New(cnierr.Recover, fmt.Errorf("error reseting VF %s: %w", w.device.Address, err), w.device.Hint(w.home, err))
}

// failed is the error of an interface that is not restored.
func (w *work) failed(err error) error {
	name, hint := w.journal.Link.Name, ""
	if NameTaken(err) {
		hint = fmt.Sprintf("another interface of the host took the name %s; rename it: the VF is restored at the next try", name)
	}
	return cnierr.New(cnierr.Recover, fmt.Errorf("restore interface %s: %w", name, err), hint)
}

// NameTaken reports whether an error of Restore is only about a name: the interface is back on
// the host and as it was, but under another name, because something else has its own.
func NameTaken(err error) bool {
	for err != nil {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			errs := joined.Unwrap()
			return len(errs) > 0 && !slices.ContainsFunc(errs, func(e error) bool { return !NameTaken(e) })
		}
		if err == unix.EEXIST { //nolint:errorlint // it is unwrapped here
			return true
		}
		err = errors.Unwrap(err)
	}
	return false
}

// verifyMAC sets the MAC through the PF after all if, for this driver, the VF's
// own choice is not what the PF reports.
func (w *work) verifyMAC(ctx context.Context) error {
	have, err := w.device.Admin(ctx, w.home, true)
	if err != nil {
		return err
	}
	return w.resetAdmin(ctx, vfstate.Diff(have, vfstate.State{MAC: w.journal.Before.MAC}))
}

// resetAdmin writes what is left to restore through the PF. A PF may refuse the zero MAC: if zero
// is what it reported before ADD, the refusal is ignored, else the former MAC is written.
func (w *work) resetAdmin(ctx context.Context, s vfstate.State) error {
	if s.IsZero() {
		return nil
	}
	err := w.device.SetAdmin(ctx, w.home, s)
	var refused *link.AttributeError
	if errors.As(err, &refused) && !vf.IsBusy(err) && refused.Attr == vfstate.AttrMAC && value.NoMAC(s.MAC) {
		slog.Warn("PF does not take back its MAC for the VF", "pci", w.device.Address, "err", err)
		if s.MAC = w.journal.Before.MAC; value.NoMAC(s.MAC) {
			s.MAC = nil
		}
		return w.device.SetAdmin(ctx, w.home, s)
	}
	return err
}
