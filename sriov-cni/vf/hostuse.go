// SPDX-License-Identifier: Apache-2.0

package vf

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
)

// Interface reads the VF's interface in the host's namespace, zero for a VF without.
// It is an error if the host itself uses one of a function's interfaces.
func (h *Host) Interface(host *link.Conn, d Device) (first link.Link, err error) {
	for i, name := range d.Netdevs {
		l, err := h.read(host, d.Address, name)
		if err == nil {
			err = h.RefuseHostUse(host, d.Address, l)
		}
		if errors.Is(err, link.ErrNotFound) {
			err = cnierr.Busy(fmt.Errorf("interface %s of %s is being renamed or moved: %w", name, d.Address, err), "the next try finds it")
		}
		if err != nil {
			return first, err
		}
		if i == 0 {
			first = l
		}
	}
	return first, nil
}

// RefuseHostUse returns an error if the host itself uses a function's interface, which a pod
// would take from it: an interface or bridge stands on it, or it has a global address or a
// default route. The error wraps link.ErrNotFound if the interface is not there any more.
func (h *Host) RefuseHostUse(host *link.Conn, a libsriov.Address, l link.Link) error {
	use, err := h.hostUse(host, a, l)
	if err != nil || use == "" {
		return err
	}
	return cnierr.New(cnierr.Device, fmt.Errorf("device %s is in use by the host: its interface %s %s", a, l.Name, use),
		"deviceID must name a VF that is meant for pods; if this one is, have the host's network manager leave "+l.Name+" alone")
}

// hostUse says what the host uses a function's interface for; "" is nothing.
func (h *Host) hostUse(host *link.Conn, a libsriov.Address, l link.Link) (string, error) {
	uppers, err := h.sysfs.NetdevUppers(a, l.Name)
	switch {
	case errors.Is(err, libsriov.ErrNoNetdev):
		return "", fmt.Errorf("%w: %w", err, link.ErrNotFound)
	case err != nil:
		return "", err
	case len(uppers) > 0:
		return "is a part of " + uppers[0], nil
	}
	if l.Master != 0 {
		return fmt.Sprintf("is a part of interface %d", l.Master), nil
	}
	addresses, err := host.GlobalAddresses(l.Index)
	if err != nil {
		return "", err
	}
	if len(addresses) > 0 {
		return "has the address " + addresses[0].String(), nil
	}
	if !l.Up() {
		return "", nil // without routes then
	}
	defaults, err := host.DefaultRoutes()
	if slices.Contains(defaults, l.Index) {
		return "has a default route", nil
	}
	return "", err
}
