// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
)

// operatorFile is what the operator's daemon keeps of a PF that it configures.
const operatorFile = "/etc/sriov-operator/pci/"

// inspect reads everything that New has to know and refuses what is in use. What cannot
// be read counts as in use.
func (k *Kit) inspect() error {
	pf, err := k.host.PF(k.PF)
	if err != nil {
		return fmt.Errorf("%w; without -pf the command lists the PFs", err)
	}
	k.pf = pf
	switch {
	case pf.Class.Base() != libsriov.ClassNetwork:
		return fmt.Errorf("%s is not a network card", k.PF)
	case pf.NumVFs > 0:
		return fmt.Errorf("PF %s has %d VFs, which pods, machines or people may use; remove them first (sriov_numvfs) or give another PF", k.PF, pf.NumVFs)
	case pf.TotalVFs < k.VFs:
		return fmt.Errorf("PF %s can have %d VFs, and %d are asked for (-vfs)", k.PF, pf.TotalVFs, k.VFs)
	case len(pf.Netdevs) == 0:
		return fmt.Errorf("PF %s has no interface in this network namespace (driver %q); bind it to its kernel driver", k.PF, pf.Driver)
	case len(pf.Netdevs) > 1:
		return fmt.Errorf("PF %s has the interfaces %v: is it in switchdev mode? Set it to legacy", k.PF, pf.Netdevs)
	}
	if _, err := os.Stat(operatorFile + k.PF.String()); err == nil {
		return fmt.Errorf("PF %s is configured by the SR-IOV operator (%s); take it out of the policies first", k.PF, operatorFile+k.PF.String())
	}
	if err := k.claim(); err != nil {
		return err
	}
	if k.autoprobe, err = k.host.Autoprobe(k.PF); err != nil {
		return err
	}
	if !k.autoprobe {
		return fmt.Errorf("PF %s does not give its VFs drivers (sriov_drivers_autoprobe is 0): somebody has plans for it; set it to 1", k.PF)
	}
	if k.uplink, err = k.links.ByName(pf.Netdevs[0]); err != nil {
		return err
	}
	if err := k.refuseUplink(); err != nil {
		return err
	}
	return k.identify()
}

// claim refuses a PF that cannot be written to, or that another of these programs tries.
func (k *Kit) claim() error {
	dir := "/sys/bus/pci/devices/" + k.PF.String()
	if err := unix.Access(dir+"/sriov_numvfs", unix.W_OK); err != nil {
		return fmt.Errorf("sriov_numvfs of PF %s cannot be written: %w; a container has to be privileged, with the host's /sys", k.PF, err)
	}
	var err error
	if k.claimed, err = os.Open(dir); err != nil {
		return err
	}
	if err := unix.Flock(int(k.claimed.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("another sriov-conformance tries PF %s: %w", k.PF, err)
	}
	return nil
}

// refuseUplink refuses a PF whose interface carries the host's traffic.
func (k *Kit) refuseUplink() error {
	name := k.uplink.Name
	routes, err := k.links.DefaultRoutes()
	if err != nil {
		return err
	}
	all, err := k.links.All()
	if err != nil {
		return err
	}
	above := stack(all, k.uplink)
	for _, l := range above {
		if slices.Contains(routes, l.Index) {
			return fmt.Errorf("PF %s carries the default route: interface %s; give a PF to spare", k.PF, l.Name)
		}
	}
	if k.uplink.Master != 0 {
		return fmt.Errorf("interface %s of PF %s is in a bridge or bond; take it out or give another PF", name, k.PF)
	}
	if len(above) > 1 {
		return fmt.Errorf("interface %s stands on interface %s of PF %s; remove it or give another PF", above[1].Name, name, k.PF)
	}
	addresses, err := k.links.GlobalAddresses(k.uplink.Index)
	if err != nil {
		return err
	}
	if len(addresses) > 0 {
		return fmt.Errorf("interface %s of PF %s has the address %s: somebody talks to it; remove it or give another PF", name, k.PF, addresses[0])
	}
	return nil
}

// stack is an interface and everything that stands on it: VLANs, and the bridges and
// bonds it is in.
func stack(all []link.Link, bottom link.Link) []link.Link {
	found := []link.Link{bottom}
	for i := 0; i < len(found); i++ {
		for _, l := range all {
			if (l.Lower == found[i].Index && l.NetNSID == nil || found[i].Master == l.Index) && !slices.ContainsFunc(found, func(f link.Link) bool { return f.Index == l.Index }) {
				found = append(found, l)
			}
		}
	}
	return found
}
