// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/value"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
	"github.com/sriovkit/sriovkit/sriov-cni/vf"
	"golang.org/x/sys/unix"
)

// strayName is the name of an interface that comes back to the host while something else has
// its own. The kernel replaces %d by the first number that makes it unique.
const strayName = "sriov%d"

// restoreLink brings the interface home and makes it as it was.
//
// One request of rtnetlink is not atomic: the kernel does its parts in order,
// stops at the first that fails, and what came before stays. So what is left is
// first tried in one request, which is all in most cases; if that fails, the
// interface is looked at again and each part done by itself.
func (w *work) restoreLink(ctx context.Context, r repair) error {
	stripErr := w.strip(w.from, r) // before the host sees the names
	if r.Move {
		if err := w.moveHome(r.Update, r.Index); err != nil {
			return errors.Join(stripErr, err)
		}
		r = planRepair(w.journal, w.situation) // until it left, the pod may have done more
		stripErr = w.strip(w.home, r)
	}
	err := errors.Join(stripErr, w.unstack())
	if !r.Update.IsZero() && w.home.Set(w.Link.Index, r.Update) != nil {
		err = errors.Join(err, w.adjust(ctx))
	}
	for _, name := range r.AddAltNames {
		// Nothing needs it: whoever took it meanwhile may keep it.
		if addErr := w.home.AddAltName(w.Link.Index, name); addErr != nil {
			slog.Warn("alternative name is not restored", "err", addErr)
		}
	}
	return err
}

// strip takes away what a pod has added to the interface and a move would keep: alternative
// names and XDP programs.
func (w *work) strip(c *link.Conn, r repair) error {
	var errs []error
	for _, name := range r.DropAltNames {
		if err := c.DeleteAltName(w.Link.Index, name); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
	}
	if r.DetachXDP {
		if err := c.DetachXDP(*w.Link); err != nil {
			slog.Warn("XDP program stays until its process ends or its link is unpinned", "pci", w.device.Address, "err", err)
		}
	}
	return errors.Join(errs...)
}

// unstack removes the interfaces that the pod has stacked on the VF's (VLANs, macvlans), which
// is back on the host by then: they would go on to send and receive through it from the pod
// that has lost it. Only now can the pod make no more of them. A try before may have failed at
// this, so it does not matter where the VF's interface was found.
func (w *work) unstack() error {
	var err error
	if w.fromNS != nil {
		err = w.unstackIn(w.from)
	}
	if w.fromNS != nil && w.fromNS.Name() == w.journal.NetNS.Path {
		return err
	}
	ns, _, openErr := w.journal.NetNS.Open()
	if errors.Is(openErr, state.ErrNoNamespace) {
		return err
	}
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	defer ns.Close()
	pod, openErr := link.Open(ns)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	defer pod.Close()
	return errors.Join(err, w.unstackIn(pod))
}

func (w *work) unstackIn(pod *link.Conn) error {
	links, err := pod.All()
	errs := []error{err}
	for _, l := range links {
		if l.Lower != w.Link.Index || l.NetNSID == nil || l.Kind == "" {
			continue
		}
		home, known, err := pod.NSID(w.homeNS)
		if err != nil || !known || home != *l.NetNSID {
			errs = append(errs, err)
			continue
		}
		slog.Info("removing an interface that the pod stacked on the VF's", "pci", w.device.Address, "name", l.Name, "kind", l.Kind)
		if err := pod.Delete(l.Index); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// moveHome moves the interface to the host's namespace. It is renamed before, so
// that nobody on the host sees it under its name in the pod. What else is to be
// restored is tried along with the move; w.Link is how the interface is then.
func (w *work) moveHome(u link.Update, index int) error {
	name := w.journal.Link.Name
	if w.Link.Name != name {
		if err := rename(w.from, *w.Link, name); err != nil {
			// The pod may have one of that name, or see to it that this fails: the VF is not to stay for that.
			slog.Info("the interface leaves the pod under its name there", "name", w.Link.Name, "err", err)
		}
	}
	u.NetNS, u.NewIndex, u.Name = w.homeNS, 0, ""
	if index != w.Link.Index {
		u.NewIndex = index
	}
	err := w.from.Set(w.Link.Index, u)
	if u.NewIndex != 0 && (errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EINVAL)) && w.here() { // taken meanwhile, or before Linux 5.13
		u.NewIndex = 0
		err = w.from.Set(w.Link.Index, u)
	}
	if errors.Is(err, unix.EEXIST) && w.here() && vf.DropTaken(w.from, w.home, *w.Link) {
		err = w.from.Set(w.Link.Index, u)
	}
	if errors.Is(err, unix.EEXIST) && w.here() {
		u.Name = strayName
		err = w.from.Set(w.Link.Index, u)
	}
	if err != nil && w.here() {
		return err
	}
	return w.arrived()
}

// here reports whether the interface is still where it was.
func (w *work) here() bool {
	l, err := w.from.ByIndex(w.Link.Index)
	return err == nil && (l.Parent == w.Link.Parent)
}

// arrived looks at the interface that has come home.
func (w *work) arrived() error {
	l, err := w.home.ByName(w.journal.Link.Name)
	if err != nil || l.Parent != w.Link.Parent {
		links, err := w.home.All()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(links, func(l link.Link) bool {
			return w.Link.Parent != "" && l.Parent == w.Link.Parent || w.Link.Parent == "" && l.Name == w.Link.Name
		})
		if i < 0 {
			return fmt.Errorf("it left the pod and did not arrive: %w", link.ErrNotFound)
		}
		l = links[i]
	}
	w.Link, w.AtHome = &l, true
	return nil
}

// rename gives an interface a name. Before Linux 6.2 it has to be down for that.
func rename(c *link.Conn, l link.Link, name string) error {
	err := c.Set(l.Index, link.Update{Name: name})
	if errors.Is(err, unix.EBUSY) {
		if err = c.Set(l.Index, link.Update{Up: new(false)}); err == nil {
			err = c.Set(l.Index, link.Update{Name: name})
		}
	}
	return err
}

// adjust does each part of what is left by itself, at home.
func (w *work) adjust(ctx context.Context) error {
	var errs []error
	again := func() (link.Update, error) {
		l, err := w.home.ByIndex(w.Link.Index)
		if err != nil {
			return link.Update{}, err
		}
		w.Link = &l
		return planRepair(w.journal, w.situation).Update, nil
	}
	u, err := again()
	if err != nil {
		return err
	}
	if u.Name != "" {
		errs = append(errs, rename(w.home, *w.Link, u.Name))
	}
	if u.MAC != nil {
		errs = append(errs, w.settleMAC(ctx, u.MAC))
	}
	if u, err = again(); err != nil { // some of this set it up or down
		return errors.Join(append(errs, err)...)
	}
	for _, part := range []link.Update{
		{MTU: u.MTU}, {Alias: u.Alias}, {TxQLen: u.TxQLen}, {Group: u.Group}, {Promisc: u.Promisc}, {AllMulti: u.AllMulti},
		{NoARP: u.NoARP}, {Multicast: u.Multicast}, {Dormant: u.Dormant}, {Broadcast: u.Broadcast}, {Up: u.Up},
	} {
		if part.IsZero() {
			continue
		}
		err := vf.Patiently(ctx, nil, vf.IsBusy, func() error { return w.home.Set(w.Link.Index, part) })
		if cannotBeSetUp(err) {
			// No later try would fare better: the PF's limits were changed meanwhile.
			slog.Warn("the VF's driver does not take back how its interface was", "pci", w.device.Address, "err", err)
			continue
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// refused reports whether a driver says that it does not take a value, as with an MTU
// above what its PF has by now. A PF that fails, as with EIO, has refused nothing: what a pod
// had of it may still be in force.
func refused(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ERANGE) || errors.Is(err, unix.EOPNOTSUPP)
}

// cannotBeSetUp reports whether the interface refuses what it had before, or cannot be set up, as
// ixgbevf's (ENETDOWN) and iavf's (EIO) while the PF is down.
func cannotBeSetUp(err error) bool {
	return refused(err) || errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.EIO)
}

// settleMAC has the interface show its MAC. Where the PF enforces one, which by
// now it does again, a refusal is no failure: the driver takes the PF's when the
// interface is next opened. An interface that showed another, as igb's do between
// a change on the PF and the next start of the VF's driver, gets that one back if
// its driver lets it, and the PF's if not.
func (w *work) settleMAC(ctx context.Context, mac net.HardwareAddr) error {
	enforced := w.journal.Before.MAC
	if w.journal.PF == nil || value.NoMAC(enforced) {
		err := vf.SettleMAC(ctx, w.home, nil, *w.Link, mac)
		if w.journal.PF == nil && err != nil && !vf.IsBusy(err) && !errors.Is(err, link.ErrNotFound) {
			slog.Warn("the VF's interface does not get back its MAC, its driver refuses it", "pci", w.device.Address, "err", err)
			return nil // whoever has the PF, as a hypervisor, set another meanwhile
		}
		return err
	}
	if !slices.Equal(mac, enforced) {
		err := vf.Patiently(ctx, nil, vf.IsBusy, func() error { return w.home.Set(w.Link.Index, link.Update{MAC: mac}) })
		if err == nil {
			return nil
		}
		slog.Warn("the VF's interface does not get back its MAC, its PF enforces another", "pci", w.device.Address, "mac", enforced, "err", err)
	}
	if err := vf.SettleMAC(ctx, w.home, nil, *w.Link, enforced); err != nil {
		slog.Warn("the VF's interface does not show the MAC that its PF enforces", "pci", w.device.Address, "err", err)
	}
	return nil
}
