// SPDX-License-Identifier: Apache-2.0

package vf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
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

// Find looks for a VF's interface: on the host, then in the pod's namespace, then in every
// other, and waits for one that the kernel is moving to the host's. ns is nil if it is on the
// host; the caller closes it otherwise. The error wraps link.ErrNotFound if it is nowhere.
func (h *Host) Find(ctx context.Context, host *link.Conn, d Device, j state.Journal) (link.Link, *os.File, error) {
	l, ns, err := h.findNow(host, d, j)
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
		if d, err = h.Look(j.Device); err != nil {
			return l, nil, err
		}
		if l, ns, err = h.findNow(host, d, j); !errors.Is(err, link.ErrNotFound) || value.DriverKindOf(d.Driver).Userspace() {
			return l, ns, err
		}
		for {
			e, waitErr := events.Next(ctx)
			if waitErr != nil {
				return l, nil, err
			}
			if e.Action == event.Missed || j.Is(e.Link) || j.Link.Parent == "" {
				break
			}
		}
	}
}

func (h *Host) findNow(host *link.Conn, d Device, j state.Journal) (l link.Link, ns *os.File, err error) {
	if d.Netdev != "" {
		l, err := h.read(host, d.Address, d.Netdev)
		if !errors.Is(err, link.ErrNotFound) {
			return l, nil, err
		}
	}
	if f, _, err := j.NetNS.Open(); err == nil {
		if l, err := findIn(f, j, true); err == nil {
			return l, f, nil
		}
		f.Close()
	}
	spaces, err := link.Namespaces(h.Root)
	for _, s := range spaces {
		f, openErr := file.Open(s.Path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
		if openErr != nil {
			if !errors.Is(openErr, fs.ErrNotExist) {
				err = errors.Join(err, openErr)
			}
			continue
		}
		l, findErr := findIn(f, j, false)
		switch {
		case findErr != nil:
			f.Close()
		case file.Same(f, h.NetNSPath()): // not listed below the VF: a virtio one
			f.Close()
			return l, nil, nil
		default:
			return l, f, nil
		}
	}
	return link.Link{}, nil, errors.Join(fmt.Errorf("interface of %s: %w", d.Address, link.ErrNotFound), err)
}

// findIn looks for the interface of a journal in one namespace, by the index it
// had, which a move keeps if it can, and else by the device it belongs to.
func findIn(ns *os.File, j state.Journal, pod bool) (link.Link, error) {
	c, err := link.Open(ns)
	if err != nil {
		return link.Link{}, err
	}
	defer c.Close()
	if j.Link.Index != 0 {
		if l, err := c.ByIndex(j.Link.Index); err == nil && (j.Is(l) || pod && l.Parent == "" && j.Link.Parent == "") {
			return l, nil
		}
	}
	links, err := c.All()
	if err != nil {
		return link.Link{}, err
	}
	for _, l := range links {
		if j.Is(l) {
			return l, nil
		}
	}
	return link.Link{}, link.ErrNotFound
}
