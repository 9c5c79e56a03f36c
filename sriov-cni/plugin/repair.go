package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/sriovkit/sriovkit/libsriov/event"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"golang.org/x/sys/unix"
)

// arrivalTimeout bounds the wait for an interface whose namespace has ended:
// the kernel sends it home from a worker, after a grace period.
const arrivalTimeout = 5 * time.Second

// recoverVF brings a VF back to how its journal says it was. It may be called
// at any time by the holder of the VF's lock and does only what is left to do.
// With an error something is left; independent parts are done all the same.
func (p *Plugin) recoverVF(ctx context.Context, j journal) error {
	id, err := p.identify(j.Device)
	gone := errors.Is(err, fs.ErrNotExist) || err == nil && j.Identity.Inode != 0 && id != j.Identity
	if gone {
		log(ctx).Info("VF is gone, nothing to restore", "pci", j.Device)
		return nil
	}
	if err != nil {
		return err
	}
	d, err := p.look(j.Device)
	if err != nil {
		return err
	}
	host, err := link.Open(nil)
	if err != nil {
		return err
	}
	defer host.Close()
	homeNS, err := open(p.path("proc/self/ns/net"), unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer homeNS.Close()

	s := situation{Userspace: d.Driver == "" || d.Userspace}
	switch {
	case j.PF == nil:
	case d.PF != nil:
		if s.Have, err = d.state(host); err != nil {
			return err
		}
	case j.Want.IsZero():
		j.PF = nil // nothing was asked of it, and now nothing can be
	default:
		return &failure{Code: codeRecover, Err: fmt.Errorf("error reseting VF %s: its PF %s has no interface in the host's namespace", j.Device, j.PF),
			Hint: "bring the PF's interface back to the host; the VF is restored at the next try"}
	}
	from := host
	if j.Link != nil && !s.Userspace {
		l, ns, err := p.findSoon(ctx, host, d, j)
		switch {
		case err == nil && ns == nil:
			s.Link, s.AtHome = &l, true
		case err == nil:
			defer ns.Close()
			s.Link = &l
			if from, err = link.Open(ns); err != nil {
				return err
			}
			defer from.Close()
		case !errors.Is(err, link.ErrNotFound):
			return err
		}
	}
	r := planRepair(j, s)
	var errs []error
	if err := resetAdmin(ctx, host, d, r.Admin); err != nil { // before the move: some drivers refuse the MAC without trust
		errs = append(errs, &failure{Code: codeRecover, Err: fmt.Errorf("error reseting VF %s: %w", j.Device, err), Hint: pfHint(host, d, err)})
	}
	switch {
	case r.Lost:
		errs = append(errs, &failure{Code: codeRecover, Err: fmt.Errorf("interface of VF %s is in no network namespace in sight", j.Device),
			Hint: "a process may hold its namespace open, or the VF's driver (" + d.Driver + ") has lost it"})
	case s.Link != nil:
		if err := settle(from, host, homeNS, *s.Link, r); err != nil {
			errs = append(errs, err)
		}
		if r.VerifyMAC && len(errs) == 0 {
			errs = append(errs, verifyMAC(ctx, host, d, j))
		}
	}
	return errors.Join(errs...)
}

// verifyMAC sets the MAC through the PF after all if, for this driver, the VF's
// own choice is not what the PF reports.
func verifyMAC(ctx context.Context, host *link.Conn, d device, j journal) error {
	have, err := d.state(host)
	if err != nil {
		return err
	}
	return resetAdmin(ctx, host, d, vfstate.Diff(have, vfstate.State{MAC: j.Before.MAC}))
}

// resetAdmin writes what is left to restore. A PF may refuse the zero MAC that
// it reported: there it means that none was ever set, which is as good.
func resetAdmin(ctx context.Context, host *link.Conn, d device, s vfstate.State) error {
	if s.IsZero() {
		return nil
	}
	err := host.SetVF(d.PF.IfIndex, d.Index, s)
	var refused *link.AttributeError
	if errors.As(err, &refused) && refused.Attr == vfstate.AttrMAC && !slices.ContainsFunc(s.MAC, func(b byte) bool { return b != 0 }) {
		log(ctx).Warn("PF does not take back its MAC for the VF", "pci", d.Address, "err", err)
		s.MAC = nil
		return host.SetVF(d.PF.IfIndex, d.Index, s)
	}
	return err
}

// findSoon is find that waits for an interface on its way home.
func (p *Plugin) findSoon(ctx context.Context, host *link.Conn, d device, j journal) (link.Link, *os.File, error) {
	l, ns, err := p.find(host, d, j)
	if !errors.Is(err, link.ErrNotFound) {
		return l, ns, err
	}
	events, err := event.OpenLinks(nil)
	if err != nil {
		return l, nil, err
	}
	defer events.Close()
	ctx, cancel := context.WithTimeout(ctx, arrivalTimeout)
	defer cancel()
	for { // look after subscribing, and after each sign of it
		if d, err = p.look(j.Device); err != nil {
			return l, nil, err
		}
		if l, ns, err = p.find(host, d, j); !errors.Is(err, link.ErrNotFound) || isUserspace(d.Driver) {
			return l, ns, err
		}
		for {
			e, waitErr := events.Next(ctx)
			if waitErr != nil {
				return l, nil, err
			}
			if e.Action == event.Missed || j.Link.is(e.Link) || j.Link.Parent == "" {
				break
			}
		}
	}
}

// nameTaken tells that recovery left but one thing undone: the interface is
// home, under another name, because something else has its own.
func nameTaken(err error) bool { return errors.Is(err, unix.EEXIST) }
