// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"slices"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/sriov-cni/vf"
	"golang.org/x/sys/unix"
)

// moveIn moves an interface to the pod, renames it and sets its MTU in one request. If
// that fails, the interface is unchanged.
func moveIn(host *link.Conn, to Pod, l link.Link, ifname string, mtu int) error {
	if slices.Contains(l.AltNames, ifname) { // the kernel would refuse it as taken, by the interface itself
		if err := host.DeleteAltName(l.Index, ifname); err != nil {
			return err
		}
	}
	u := link.Update{NetNS: to.NS, Name: ifname}
	if mtu != l.MTU {
		u.MTU = mtu
	}
	err := host.Move(l, to.Home, to.Conn, u)
	if errors.Is(err, unix.EEXIST) && vf.DropTaken(host, to.Conn, l) {
		err = host.Move(l, to.Home, to.Conn, u)
	}
	return err
}
