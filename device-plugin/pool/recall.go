// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"errors"
	"io/fs"

	"github.com/sriovkit/sriovkit/libsriov"
	"golang.org/x/sys/unix"
)

// Recall fills in what the host does not tell now and did before: what it could not tell
// (err, the error of Read), and what left with an interface that is in a pod. A device that
// is there and cannot be read stays as it was; one that is gone is gone.
func Recall(now, before []Device, err error) []Device {
	unread := unreadable(err)
	known := make(map[string]*Device, len(before))
	for i := range before {
		known[before[i].ID] = &before[i]
	}
	seen := make(map[string]bool, len(now))
	for i := range now {
		d, old := &now[i], known[now[i].ID]
		seen[d.ID] = true
		if old == nil || old.Driver != d.Driver {
			continue
		}
		inPod := len(d.Netdevs) == 0
		if inPod {
			recallMoved(d, old)
		}
		if unread[d.ID] != nil || d.PF != nil && unread[d.PF.String()] != nil {
			recallUnread(d, old)
		}
	}
	for i := range before {
		old := &before[i]
		if !seen[old.ID] && !isGone(old, unread) {
			now = append(now, *old)
		}
	}
	return now
}

// recallMoved: link type, partition key and RDMA device leave with an interface.
func recallMoved(d, old *Device) {
	if d.LinkType == 0 {
		d.LinkType = old.LinkType
	}
	if d.PKey == "" {
		d.PKey = old.PKey
	}
	d.RDMACapable = d.RDMACapable || old.RDMACapable
}

func recallUnread(d, old *Device) {
	recallMoved(d, old)
	if d.ACPIIndex == "" {
		d.ACPIIndex = old.ACPIIndex
	}
	if d.DDP == "" {
		d.DDP = old.DDP
	}
	if len(d.Bound) == 0 {
		d.Bound = old.Bound
	}
	if len(d.PFNames) == 0 {
		d.PFNames = old.PFNames
	}
	if d.Carrier == nil {
		d.Carrier = old.Carrier
	}
	if d.NUMANode < 0 {
		d.NUMANode = old.NUMANode
	}
}

// unreadable are the failures by device.
func unreadable(err error) map[string][]error {
	out := map[string][]error{}
	EachError(err, func(e error) {
		if broken := new(libsriov.DeviceError); errors.As(e, &broken) {
			out[broken.Device] = append(out[broken.Device], broken.Err)
		}
	})
	return out
}

// isGone reports whether a device that is not listed does not exist, as opposed to a failure
// to find out. A VF that its PF does not list is gone if the PF can be read.
func isGone(d *Device, unread map[string][]error) bool {
	for _, why := range unread[d.ID] {
		switch {
		case errors.Is(why, libsriov.ErrNotVF):
			if d.PF != nil && unread[d.PF.String()] != nil {
				return false
			}
		case !errors.Is(why, fs.ErrNotExist) && !errors.Is(why, unix.ENODEV) && !errors.Is(why, unix.ENXIO):
			return false
		}
	}
	return true
}

// EachError calls visit for each of the errors that are joined into one.
func EachError(err error, visit func(error)) {
	if err == nil {
		return
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		visit(err)
		return
	}
	for _, e := range joined.Unwrap() {
		EachError(e, visit)
	}
}
