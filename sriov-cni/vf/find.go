// SPDX-License-Identifier: Apache-2.0

package vf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/sriovkit/sriovkit/libsriov/event"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/value"
	"github.com/sriovkit/sriovkit/sriov-cni/internal/file"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
	"golang.org/x/sys/unix"
)

// arrivalTimeout bounds the wait for an interface whose namespace has ended: the kernel moves
// it to the host's namespace in a worker, after a grace period.
const arrivalTimeout = 5 * time.Second

// Found is where a VF's interface is.
type Found struct {
	Link link.Link
	Conn *link.Conn // in its namespace, the caller's to close; nil: it is on the host
	NS   *os.File   // that namespace, likewise
}

// Find looks for a VF's interface: on the host, then in the pod's namespace, then in every
// other, and waits for one that the kernel is moving to the host's. The error wraps
// link.ErrNotFound if it is nowhere.
func (h *Host) Find(ctx context.Context, host *link.Conn, d Device, j state.Journal) (Found, error) {
	found, err := h.findNow(host, d, j)
	if !errors.Is(err, link.ErrNotFound) {
		return found, err
	}
	events, err := event.OpenLinks(nil)
	if err != nil {
		return found, err
	}
	defer events.Close()
	ctx, cancel := context.WithTimeout(ctx, arrivalTimeout)
	defer cancel()
	for { // look after subscribing, and after each sign of it
		if d, err = h.Look(j.Device); err != nil {
			return found, err
		}
		if found, err = h.findNow(host, d, j); !errors.Is(err, link.ErrNotFound) || value.DriverKindOf(d.Driver).Userspace() {
			return found, err
		}
		for {
			e, waitErr := events.Next(ctx)
			if waitErr != nil {
				return found, err
			}
			if e.Action == event.Missed || j.Is(e.Link) || j.Link.Parent == "" {
				break
			}
		}
	}
}

func (h *Host) findNow(host *link.Conn, d Device, j state.Journal) (Found, error) {
	if d.Netdev != "" {
		l, err := h.read(host, d.Address, d.Netdev)
		if !errors.Is(err, link.ErrNotFound) {
			return Found{Link: l}, err
		}
	}
	if ns, _, err := j.NetNS.Open(); err == nil {
		if found, err := findIn(ns, j, true); err == nil {
			return found, nil
		}
	}
	spaces, err := link.Namespaces(h.Root)
	for _, s := range spaces {
		ns, openErr := file.Open(s.Path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
		if openErr != nil {
			if !errors.Is(openErr, fs.ErrNotExist) {
				err = errors.Join(err, openErr)
			}
			continue
		}
		found, findErr := findIn(ns, j, false)
		switch {
		case findErr != nil:
			continue
		case file.Same(ns, h.NetNSPath()): // not listed below the VF: a virtio one
			found.Conn.Close()
			ns.Close()
			return Found{Link: found.Link}, nil
		}
		return found, nil
	}
	return Found{}, errors.Join(fmt.Errorf("interface of %s: %w", d.Address, link.ErrNotFound), err)
}

// findIn looks for the interface of a journal in one namespace, by the index it
// had, which a move keeps if it can, and else by the device it belongs to. ns is
// closed with an error.
func findIn(ns *os.File, j state.Journal, pod bool) (Found, error) {
	c, err := link.Open(ns)
	if err != nil {
		ns.Close()
		return Found{}, err
	}
	if j.Link.Index != 0 {
		if l, err := c.ByIndex(j.Link.Index); err == nil && (j.Is(l) || pod && l.Parent == "" && j.Link.Parent == "") {
			return Found{l, c, ns}, nil
		}
	}
	links, err := c.All()
	if i := slices.IndexFunc(links, j.Is); i >= 0 {
		return Found{links[i], c, ns}, nil
	}
	c.Close()
	ns.Close()
	return Found{}, cmp.Or(err, link.ErrNotFound)
}

// DropTaken takes those alternative names from an interface that something has where it is to
// go: nothing needs them, and with them the kernel refuses the move.
func DropTaken(from, to *link.Conn, l link.Link) (dropped bool) {
	for _, name := range l.AltNames {
		if _, err := to.ByName(name); err == nil && from.DeleteAltName(l.Index, name) == nil {
			slog.Warn("alternative name was taken meanwhile", "name", name, "ifname", l.Name)
			dropped = true
		}
	}
	return dropped
}
