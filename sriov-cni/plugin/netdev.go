package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/sriovkit/sriovkit/libsriov/event"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"golang.org/x/sys/unix"
)

// pod is a connection in the pod's network namespace.
type pod struct {
	*link.Conn
	ns   *os.File
	home *os.File // the host's namespace
}

func openPod(ns *os.File, home *os.File) (pod, error) {
	c, err := link.Open(ns)
	return pod{Conn: c, ns: ns, home: home}, err
}

// readyTimeout bounds the wait for a driver that resets a VF when the PF gives
// it a new MAC (i40e with iavf), and refuses things meanwhile. 2 s is what the
// plugin that this one replaces allows it.
const readyTimeout = 2 * time.Second

// readyRetry is how long to wait for an interface event before the next try.
const readyRetry = 100 * time.Millisecond

// moveIn gives an interface to the pod under its name there, with one request.
// If that fails the interface is where it was.
func moveIn(host *link.Conn, to pod, l link.Link, ifname string, mtu int) error {
	if slices.Contains(l.AltNames, ifname) { // the kernel would refuse the name as taken, by itself
		if err := host.DeleteAltName(l.Index, ifname); err != nil {
			return err
		}
	}
	u := link.Update{NetNS: to.ns, Name: ifname}
	if mtu != l.MTU {
		u.MTU = mtu
	}
	err := host.Move(l, to.home, to.Conn, u)
	if errors.Is(err, unix.EEXIST) {
		var dropped bool
		if dropped, err = dropColliding(host, to, l, err); dropped {
			err = host.Move(l, to.home, to.Conn, u)
		}
	}
	return err
}

// dropColliding takes those alternative names away that something in the pod
// has, for which the kernel refuses the move.
func dropColliding(host *link.Conn, to pod, l link.Link, cause error) (dropped bool, err error) {
	for _, name := range l.AltNames {
		if _, err := to.ByName(name); err != nil {
			continue
		}
		if err := host.DeleteAltName(l.Index, name); err != nil && !errors.Is(err, unix.ENOENT) {
			return dropped, errors.Join(cause, err)
		}
		dropped = true
	}
	return dropped, cause
}

// isPassing tells an errno with which drivers refuse what they will take once
// the VF and its PF have talked about it.
func isPassing(err error) bool {
	return errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EPERM)
}

// whenReady tries set again while the driver refuses it as above, on each event
// about an interface in the namespace that ns is open on.
func whenReady(ctx context.Context, ns *os.File, set func() error) error {
	err := set()
	if !isPassing(err) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	events, openErr := event.OpenLinks(ns)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	defer events.Close()
	for {
		if err = set(); !isPassing(err) || ctx.Err() != nil {
			return err
		}
		// Drivers announce a new address, but not that they are ready for one.
		tick, cancel := context.WithTimeout(ctx, readyRetry)
		_, waitErr := events.Next(tick)
		cancel()
		if waitErr != nil && tick.Err() == nil {
			return errors.Join(err, waitErr)
		}
	}
}

// settle does an interface's repair: out of the pod, if it is there, and as it
// was. from is where it is, home or in a pod.
func settle(from *link.Conn, home *link.Conn, homeNS *os.File, l link.Link, r repair) error {
	var errs []error
	for _, name := range r.DropAltNames {
		if err := from.DeleteAltName(l.Index, name); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
	}
	index := l.Index
	u := r.Update
	switch {
	case r.Move:
		name := u.Name
		if name == "" {
			name = l.Name
		}
		u.NetNS = homeNS
		if r.Index != l.Index {
			u.NewIndex = r.Index
		}
		err := from.Set(l.Index, u)
		if u.NewIndex != 0 && (errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EINVAL)) { // taken meanwhile, or before Linux 5.13
			u.NewIndex = 0
			err = from.Set(l.Index, u)
		}
		if err != nil {
			return errors.Join(append(errs, moveHomeError(name, err))...)
		}
		if len(r.AddAltNames) > 0 {
			arrived, err := home.ByName(name)
			if err != nil {
				return errors.Join(append(errs, err)...)
			}
			index = arrived.Index
		}
	case !u.IsZero():
		if err := from.Set(l.Index, u); err != nil {
			return errors.Join(append(errs, moveHomeError(u.Name, err))...)
		}
	}
	for _, name := range r.AddAltNames {
		if err := home.AddAltName(index, name); err != nil {
			errs = append(errs, fmt.Errorf("restore: %w", err))
		}
	}
	return errors.Join(errs...)
}

func moveHomeError(name string, err error) error {
	if errors.Is(err, unix.EEXIST) {
		return &failure{Code: codeRecover, Err: fmt.Errorf("restore interface %s: %w", name, err),
			Hint: fmt.Sprintf("another interface of the host took the name %s; rename it: the VF is restored at the next try", name)}
	}
	return &failure{Code: codeRecover, Err: fmt.Errorf("restore interface %s: %w", name, err)}
}
