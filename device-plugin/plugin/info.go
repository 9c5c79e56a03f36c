// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/allocation"
	"github.com/sriovkit/sriovkit/device-plugin/inventory"
	"github.com/sriovkit/sriovkit/libsriov"
)

// unclaimedTime is how old a device-info file must be that nobody is known to need and that
// another program, such as a DRA driver, may just have written.
const unclaimedTime = time.Minute

// restoreInfo writes the device-info files that pods need and that are gone, as after a
// reboot.
func (p *Plugin) restoreInfo(changes []change, s inventory.State) error {
	if !s.Asked {
		return nil
	}
	var errs []error
	for i := range changes {
		for _, m := range changes[i].List {
			if h, held := s.Held[m.ID]; held && h.Resource == changes[i].Pool.Resource && m.Driver != "" {
				errs = append(errs, changes[i].WriteInfo(m))
			}
		}
	}
	return errors.Join(errs...)
}

// pruneInfo removes the device-info files of devices that no pod holds, or that neither a pool
// nor the host has any more: files of present and former pools, and those of earlier
// configurations that can be recognized by their prefix. It removes nothing unless the last
// question to kubelet, what pods hold, was answered.
func (p *Plugin) pruneInfo(s inventory.State) error {
	if !s.Asked {
		return nil
	}
	files, err := allocation.InfoFiles(p.opts.DeviceInfoDir)
	errs := []error{err}
	for _, f := range files {
		if !p.wrote(f) {
			continue
		}
		errs = append(errs, p.removeUnheld(f, len(s.Devices) > 0))
	}
	return errors.Join(errs...)
}

// wrote reports whether a file is this plugin's.
func (p *Plugin) wrote(f allocation.InfoFile) bool {
	if p.serves(f) {
		return true
	}
	for r := range p.retired {
		if f.Of(r) {
			return true
		}
	}
	if time.Since(f.Written) < unclaimedTime {
		return false
	}
	if f.OfPrefix(p.opts.ResourcePrefix) {
		return true
	}
	for r := range p.endpoints {
		if f.OfPrefix(r.Prefix) {
			return true
		}
	}
	return false
}

// serves reports whether a file is of a resource that has a pool.
func (p *Plugin) serves(f allocation.InfoFile) bool {
	for r := range p.endpoints {
		if f.Of(r) {
			return true
		}
	}
	return false
}

// removeUnheld removes a file unless its device is in use, while no container is being given
// one. A device that is gone from a host that shows others, as its pool is, is used by nobody,
// though kubelet's checkpoint may name its last pod until the next one starts: without a pool
// nothing has kubelet write that anew. If both come back under a pod, restoreInfo writes the
// file.
func (p *Plugin) removeUnheld(f allocation.InfoFile, seesOthers bool) error {
	p.files.Lock()
	defer p.files.Unlock()
	gone := seesOthers && !p.serves(f) && p.gone(f.Device)
	if _, held := p.inventory.Held(f.Device); held && !gone {
		return nil
	}
	return f.Remove()
}

// gone reports whether the host has no such device, as far as that is certain.
func (p *Plugin) gone(id string) bool {
	a, err := libsriov.ParseAddress(id)
	if err != nil {
		return false // a sub-function
	}
	_, err = p.host.Function(a)
	return errors.Is(err, libsriov.ErrNoDevice)
}
