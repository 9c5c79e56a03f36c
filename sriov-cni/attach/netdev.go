// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"slices"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"golang.org/x/sys/unix"
)

// moveIn gives an interface to the pod under its name there, with one request.
// If that fails the interface is where it was.
func moveIn(host *link.Conn, to Pod, l link.Link, ifname string, mtu int) error {
	if slices.Contains(l.AltNames, ifname) { // the kernel would refuse the name as taken, by itself
		if err := host.DeleteAltName(l.Index, ifname); err != nil {
			return err
		}
	}
	u := link.Update{NetNS: to.NS, Name: ifname}
	if mtu != l.MTU {
		u.MTU = mtu
	}
	err := host.Move(l, to.Home, to.Conn, u)
	if errors.Is(err, unix.EEXIST) {
		var dropped bool
		if dropped, err = dropColliding(host, to, l, err); dropped {
			err = host.Move(l, to.Home, to.Conn, u)
		}
	}
	return err
}

// dropColliding takes those alternative names away that something in the pod
// has, for which the kernel refuses the move.
func dropColliding(host *link.Conn, to Pod, l link.Link, cause error) (dropped bool, err error) {
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
