package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"golang.org/x/sys/unix"
)

// transfer is one VF on its way into one pod.
type transfer struct {
	p       *Plugin
	podNS   *os.File
	journal journal

	device device
	host   *link.Conn
	home   *os.File // the host's namespace
	pod    pod
	link   *link.Link // the interface as it was; nil: driven from user space
	inPod  *link.Link // the interface in the pod, once it is looked at
}

func (t *transfer) close() {
	if t.host != nil {
		t.host.Close()
	}
	if t.pod.Conn != nil {
		t.pod.Close()
	}
	if t.home != nil {
		t.home.Close()
	}
}

// prepare looks at everything there is to know and completes the journal.
// hostName is the name to restore, where it is not the present one; "" else.
func (t *transfer) prepare(r request, hostName string) (err error) {
	d, err := t.p.look(r.Device)
	if err != nil {
		return err
	}
	t.device, t.journal.VFIndex = d, d.Index
	if t.host, err = link.Open(nil); err != nil {
		return err
	}
	if !d.Physfn {
		if err := t.p.refuseUnlisted(d.Address); err != nil {
			return err
		}
	}
	if err := t.p.refuseHostUse(t.host, d); err != nil {
		return err
	}
	if t.home, err = open(t.p.path("proc/self/ns/net"), unix.O_RDONLY, 0); err != nil {
		return err
	}
	if t.pod, err = openPod(t.podNS, t.home); err != nil {
		return err
	}
	if err := t.prepareAdmin(r); err != nil {
		return err
	}
	switch {
	case d.Netdev != "":
		l, err := t.host.ByName(d.Netdev)
		if err != nil {
			return err
		}
		if l.Type == libsriov.LinkInfiniBand {
			return &failure{Code: codeDevice, Err: fmt.Errorf("interface %s of VF %s is InfiniBand", l.Name, d.Address),
				Hint: "this plugin is for Ethernet; use one for InfiniBand networks"}
		}
		t.link, t.journal.Link = &l, linkStateOf(l)
		if hostName != "" {
			t.journal.Link.Name = hostName
		}
	case !d.Userspace:
		return &failure{Code: codeDevice, Err: fmt.Errorf("VF %s does not have a interface name or a dpdk driver (driver: %q)", d.Address, d.Driver),
			Hint: "its interface is in another network namespace, or no driver is bound to it"}
	case r.MTU != 0:
		return &failure{Code: types.ErrInvalidNetworkConfig,
			Err: fmt.Errorf("invalid mtu %d: VF %s has no interface to set it on, its driver is %s", r.MTU, d.Address, d.Driver)}
	}
	return nil
}

// prepareAdmin reads what the PF enforces and settles what it shall.
func (t *transfer) prepareAdmin(r request) (err error) {
	before, err := t.device.state(t.host)
	lack := ""
	switch {
	case t.device.PF == nil:
		lack = "no PF is in sight"
	case errors.Is(err, link.ErrNoVF):
		lack = "its PF's driver (" + t.device.PF.Driver + ") knows no settings of VFs"
		t.device.PF = nil
	case err != nil:
		return err
	}
	if lack != "" {
		if what := r.needsPF(); what != "" {
			return &failure{Code: codeDevice, Err: fmt.Errorf("SRIOV-CNI failed to configure VF %s: %s is the PF's to set, and %s", t.device.Address, what, lack),
				Hint: "leave the setting out; inside a virtual machine, make it on the host"}
		}
		return nil
	}
	t.journal.PF, t.journal.Before = &t.device.PF.Address, before
	want, err := r.admin(before)
	if err != nil {
		return err
	}
	t.journal.Want = vfstate.Diff(before, want)
	return nil
}

// execute does what the journal says. What it leaves half-done the journal
// undoes.
func (t *transfer) execute(ctx context.Context, r request) error {
	name := t.journal.Owner.IfName
	setup := func(err error, hint string) error {
		return &failure{Code: codeMove, Err: fmt.Errorf("failed to set up pod interface %s: %w", name, err), Hint: hint}
	}
	setMAC := t.link != nil && r.MAC != nil && !slices.Equal(r.MAC, t.link.MAC)
	if setMAC {
		var err error
		if setMAC, err = t.setMACFirst(r.MAC); err != nil {
			return setup(err, "")
		}
	}
	if t.device.PF != nil {
		if err := t.setAdmin(t.journal.Want); err != nil {
			return err
		}
	}
	if t.link == nil {
		return nil
	}
	if setMAC {
		err := whenReady(ctx, nil, func() error { return t.host.Set(t.link.Index, link.Update{MAC: r.MAC}) })
		if err != nil {
			return setup(fmt.Errorf("effective mac address is different from %s: %w", r.MAC, err), "the driver does not let the VF have the MAC that its PF set")
		}
	}
	switch err := moveIn(t.host, t.pod, *t.link, name, t.mtu(r)); {
	case errors.Is(err, unix.EEXIST):
		return setup(err, "the pod has an interface of that name already")
	case err != nil:
		return setup(err, "")
	}
	// optimistic_dad counts only if set before the interface is up.
	if err := writeSysctls(t.podNS, name, announcing); err != nil {
		return setup(err, "")
	}
	if err := whenReady(ctx, t.podNS, func() error { return t.pod.SetUp(name, true) }); err != nil {
		return setup(err, "")
	}
	return nil
}

// setMACFirst gives the VF its MAC before the PF is told the same: igb and its
// like refuse the VF any change once the PF has set a MAC, even that one, until
// the VF's driver is loaded again. left is true if the driver wants it the other
// way round.
func (t *transfer) setMACFirst(mac net.HardwareAddr) (left bool, err error) {
	err = t.host.Set(t.link.Index, link.Update{MAC: mac})
	if !isPassing(err) || t.device.PF == nil {
		return false, err
	}
	// The PF has set one before.
	t.journal.MACLocked = true
	if err := save(t.p.store().journalPath(t.device.Address), t.journal); err != nil {
		return false, err
	}
	if t.setAdmin(vfstate.State{MAC: make(net.HardwareAddr, len(mac))}) != nil { // not every driver lets go of it
		return true, nil
	}
	err = t.host.Set(t.link.Index, link.Update{MAC: mac})
	return isPassing(err), notPassing(err)
}

func notPassing(err error) error {
	if isPassing(err) {
		return nil
	}
	return err
}

// setAdmin has the PF enforce a state.
func (t *transfer) setAdmin(s vfstate.State) error {
	pf := t.device.PF
	if err := t.host.SetVF(pf.IfIndex, t.device.Index, s); err != nil {
		return &failure{Code: codeAdmin, Err: fmt.Errorf("SRIOV-CNI failed to configure VF %s: PF %s (%s): %w", t.device.Address, pf.Name, pf.Driver, err),
			Hint: pfHint(t.host, t.device, err)}
	}
	return nil
}

// pfHint explains a refusal by the PF.
func pfHint(host *link.Conn, d device, cause error) string {
	switch l, err := host.ByIndex(d.PF.IfIndex); {
	case err == nil && !l.Up():
		return "the PF " + l.Name + " is down; set it up"
	case err == nil && !l.Carrier():
		return "the PF " + l.Name + " has no link, and some drivers accept a rate only with one; look at its cable"
	case errors.Is(cause, unix.EOPNOTSUPP):
		return "leave the setting out of the network's configuration, or use another kind of NIC"
	}
	return ""
}

// configure gives the interface in the pod its addresses.
func (t *transfer) configure(leased *types100.Result) error {
	l, err := t.pod.ByName(t.journal.Owner.IfName)
	if err != nil {
		return err
	}
	t.inPod = &l
	if hasIPv6(leased) {
		if err := writeSysctls(t.podNS, t.journal.Owner.IfName, withIPv6); err != nil {
			return err
		}
	}
	return configure(t.pod.Conn, l.Index, leased)
}
