// SPDX-License-Identifier: Apache-2.0

// Package conformance tries one SR-IOV NIC and its drivers: that VFs come and go, that
// every setting a PF can make of a VF is in force or refused with a reason, that VLANs
// and the spoof check keep VFs apart, that VFs can be moved and handed to userspace, and
// that the CNI plugin brings them back whatever happens. It uses the kernel and nothing
// else, sends frames between VFs of the one PF only, and leaves the PF as it was.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/devlink"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/pciname"
)

// Options say what to try and how.
type Options struct {
	PF     libsriov.Address
	VFs    int    // to make for most checks
	Plugin string // path of the CNI plugin
	Kills  int    // of the plugin, in the middle of an ADD
	Only   string // regular expression of the checks to run; empty is all
	// Patience is how long a driver may take until what it has accepted is in force and
	// in its report.
	Patience time.Duration
	Log      io.Writer
}

// Kit is a NIC that may be tried.
type Kit struct {
	Options
	host      *libsriov.Host
	links     *link.Conn
	pf        libsriov.PF
	uplink    link.Link // as it was found
	autoprobe bool      // as it was found
	cable     bool      // the PF has a link partner
	claimed   *os.File  // locked as long as this is open
	spoiled   bool      // a check failed and may have left its VFs in any state
	only      *regexp.Regexp
	report    Report
}

// New looks at a PF and refuses one that anything uses, without touching it.
func New(o Options) (*Kit, error) {
	if o.VFs < 2 {
		return nil, fmt.Errorf("-vfs is %d, want at least 2, which talk to each other", o.VFs)
	}
	if o.Patience <= 0 {
		return nil, fmt.Errorf("-patience is %s, want more than nothing", o.Patience)
	}
	only, err := regexp.Compile(o.Only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	if all := (&Kit{}).checks(); !slices.ContainsFunc(all, func(c check) bool { return only.MatchString(c.name) }) {
		return nil, fmt.Errorf("-only is %q, which is no part of any check's name: %s", o.Only, names(all))
	}
	if info, err := os.Stat(o.Plugin); err == nil && (!info.Mode().IsRegular() || info.Mode()&0o111 == 0) {
		return nil, fmt.Errorf("-plugin: %s is not a program", o.Plugin)
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("this needs root: it makes VFs and network namespaces")
	}
	host, err := libsriov.Open("/")
	if err != nil {
		return nil, err
	}
	links, err := link.Open(nil)
	if err != nil {
		return nil, err
	}
	k := &Kit{Options: o, host: host, links: links, only: only}
	if err := k.inspect(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// Close lets go of what New opened.
func (k *Kit) Close() error {
	k.links.Close()
	if k.claimed == nil {
		return nil
	}
	return k.claimed.Close()
}

// Plan says in plain words what Run will touch.
func (k *Kit) Plan() string {
	return fmt.Sprintf(`sriov-conformance on %s
  PF %s, interface %s, driver %s, kernel %s

It will
  - set %s up and its MTU as it is, create %d VFs on it, several times, once as many as it has (%d), and remove them
  - set the MAC, VLAN, rates, spoof check, trust and link state of these VFs
  - move their interfaces to network namespaces of its own and send frames of EtherType 0x88b5 between them, some tagged
    with VLAN 100 and 200, some with a foreign source address; a switch behind the PF may see them
  - bind a VF to vfio-pci, if that driver is loaded
  - run %s on them, if it is there, and kill it
It will not touch any other device. At the end the PF has no VFs, as now.
`, k.report.NIC.Name, k.PF, k.uplink.Name, k.pf.Driver, k.report.NIC.Kernel, k.uplink.Name, k.VFs, k.pf.TotalVFs, k.Plugin)
}

// Run tries everything. Its error is about the kit and not about the NIC, whose faults
// are in the report; the report is good in either case.
func (k *Kit) Run(ctx context.Context) (Report, error) {
	k.report.Started = time.Now().UTC().Truncate(time.Second)
	err := k.links.Set(k.uplink.Index, link.Update{Up: new(true)})
	if err == nil {
		k.cable = k.awaitCarrier(ctx) == nil
		for _, c := range k.checks() {
			if ctx.Err() != nil {
				err = fmt.Errorf("stopped before %q: %w", c.name, context.Cause(ctx))
				break
			}
			if k.only.MatchString(c.name) {
				k.try(ctx, c)
			}
		}
	}
	restore := k.restore(context.WithoutCancel(ctx))
	k.report.Restored = restore == nil
	k.report.finish()
	return k.report, errors.Join(err, restore)
}

// check is something to try.
type check struct {
	name string
	vfs  vfsNeed
	try  func(ctx context.Context) error
}

// vfsNeed is what VFs a check wants to find.
type vfsNeed int

const (
	own    vfsNeed = iota // it makes them itself
	fresh                 // new ones
	usable                // those of the check before, or new ones
)

// checkTimeout is many times what any check takes on slow hardware.
const checkTimeout = 5 * time.Minute

func (k *Kit) try(ctx context.Context, c check) {
	fmt.Fprintf(k.Log, "  %-32s", c.name)
	begun := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, checkTimeout, fmt.Errorf("not done within %s", checkTimeout))
	defer cancel()
	err := k.prepare(ctx, c.vfs)
	if err == nil {
		err = c.try(ctx)
	}
	done := k.report.add(c.name, err, time.Since(begun))
	k.spoiled = done.Verdict == Fail
	fmt.Fprintf(k.Log, " %-8s %5.1f s  %s\n", done.Verdict, done.Seconds, strings.ReplaceAll(done.Detail, "\n", "; "))
}

// prepare makes the VFs that a check wants, and waits for their interfaces: the driver may
// be late with them, and so may a namespace that has ended.
func (k *Kit) prepare(ctx context.Context, need vfsNeed) error {
	if need == own {
		return nil
	}
	n, err := k.host.NumVFs(k.PF)
	if err == nil && (need == fresh || n != k.VFs || k.spoiled) {
		err = k.make(ctx, k.VFs)
	}
	if err != nil {
		return err
	}
	for _, vf := range k.pf.VFs {
		if vf.Driver == "" { // none of this machine's: its PF's settings can be tried all the same
			continue
		}
		if err := k.awaitInterface(ctx, vf.Address); err != nil {
			return err
		}
	}
	return nil
}

// make gives the PF so many new VFs.
func (k *Kit) make(ctx context.Context, n int) error {
	if err := k.host.SetNumVFs(ctx, k.PF, 0); err != nil {
		return err
	}
	if k.cable {
		if err := k.awaitCarrier(ctx); err != nil {
			return err
		}
	}
	if err := k.host.SetNumVFs(ctx, k.PF, n); err != nil {
		return err
	}
	pf, err := k.host.PF(k.PF)
	if err != nil {
		return err
	}
	if len(pf.VFs) != n {
		return fmt.Errorf("asked for %d VFs, the PF has %d", n, len(pf.VFs))
	}
	if k.cable { // without which some take no rate
		if err := k.awaitCarrier(ctx); err != nil {
			return err
		}
	}
	k.pf.VFs = pf.VFs
	k.report.NIC.VFDriver = pf.VFs[0].Driver
	return nil
}

// awaitCarrier waits for the PF's link. Some drivers start the PF anew when its VFs come
// or go, and VFs made meanwhile find no PF.
func (k *Kit) awaitCarrier(ctx context.Context) error {
	return until(ctx, 10*time.Second, func() error {
		l, err := k.links.ByIndex(k.uplink.Index)
		if err == nil && !l.Carrier() {
			err = fmt.Errorf("interface %s of PF %s has no carrier", l.Name, k.PF)
		}
		return err
	})
}

// restore makes the PF what it was when New looked at it, and looks again.
func (k *Kit) restore(ctx context.Context) error {
	err := k.host.SetNumVFs(ctx, k.PF, 0)
	err = errors.Join(err, k.host.SetAutoprobe(ctx, k.PF, k.autoprobe))
	was := link.Update{Up: new(k.uplink.Up()), MTU: k.uplink.MTU}
	err = errors.Join(err, k.links.Set(k.uplink.Index, was))
	now, lookErr := k.links.ByIndex(k.uplink.Index)
	if err = errors.Join(err, lookErr); err != nil {
		return fmt.Errorf("the PF is not as it was: %w; set sriov_numvfs of %s to 0 by hand", err, k.PF)
	}
	if now.Name != k.uplink.Name || now.MTU != k.uplink.MTU || now.Up() != k.uplink.Up() || now.MAC.String() != k.uplink.MAC.String() {
		return fmt.Errorf("the PF is not as it was: its interface was %s, MTU %d, up %t, %s and is %s, MTU %d, up %t, %s",
			k.uplink.Name, k.uplink.MTU, k.uplink.Up(), k.uplink.MAC, now.Name, now.MTU, now.Up(), now.MAC)
	}
	return nil
}

// identify finds out what the NIC is.
func (k *Kit) identify() error {
	names := pciname.Open()
	n := &k.report.NIC
	n.Address, n.Driver, n.TotalVFs = k.PF.String(), k.pf.Driver, k.pf.TotalVFs
	n.Vendor, n.Device = k.pf.Vendor.String(), k.pf.Device.String()
	n.Name = names.Vendor(k.pf.Vendor) + " " + names.Device(k.pf.Vendor, k.pf.Device)
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	n.Kernel = unix.ByteSliceToString(uts.Release[:])
	if d, err := devlink.Open(); err == nil {
		defer d.Close()
		if versions, err := d.Versions(devlink.PCI(k.PF)); err == nil {
			n.Firmware = versions["fw"]
		}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, k.uplink.Name)
	if err != nil {
		return nil // some drivers have none
	}
	n.DriverVersion = unix.ByteSliceToString(info.Version[:])
	if n.Firmware == "" {
		n.Firmware = unix.ByteSliceToString(info.Fw_version[:])
	}
	return nil
}

// List says which PFs the machine has.
func List(to io.Writer) error {
	host, err := libsriov.Open("/")
	if err != nil {
		return err
	}
	s, err := host.Snapshot()
	if err != nil {
		return err
	}
	names := pciname.Open()
	for _, pf := range s.PFs {
		fmt.Fprintf(to, "%s  %s %s, driver %s, interfaces %v, %d of %d VFs\n",
			pf.Address, names.Vendor(pf.Vendor), names.Device(pf.Vendor, pf.Device), pf.Driver, pf.Netdevs, pf.NumVFs, pf.TotalVFs)
	}
	if len(s.PFs) == 0 {
		return errors.New("this machine has no PF of a network card")
	}
	fmt.Fprintln(to, "Give one that nothing uses: sriov-conformance -pf ADDRESS")
	return nil
}
