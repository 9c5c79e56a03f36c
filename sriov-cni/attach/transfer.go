// SPDX-License-Identifier: Apache-2.0

// Package attach gives a VF to a pod: it looks at everything there is to know
// about the VF, writes that down, and only then changes anything.
package attach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/value"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/sriovkit/sriovkit/sriov-cni/request"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
	"github.com/sriovkit/sriovkit/sriov-cni/vf"
	"golang.org/x/sys/unix"
)

// Transfer is one VF on its way into one pod.
type Transfer struct {
	Journal state.Journal

	request request.Request
	store   state.Store
	pod     Pod
	node    *vf.Host
	host    *link.Conn
	device  vf.Device
	link    *link.Link       // the interface as it was; nil: driven from user space
	blind   *vf.PF           // the PF, where its driver reports none of its VFs: see setBlindly; nil else
	opened  net.HardwareAddr // what the interface showed in the pod once it was up; nil: not looked at
	mtu     int              // that the VF has in the pod or, without an interface, its PF's; 0 if nothing tells
}

// Prepare looks at a VF, refuses what cannot become a pod's, and completes the
// journal, which is not on disk yet. hostName is the name to restore, where it is
// not the present one; "" else.
func Prepare(ctx context.Context, h *vf.Host, s state.Store, r request.Request, pod Pod, j state.Journal, hostName string) (*Transfer, error) {
	t := &Transfer{Journal: j, request: r, store: s, pod: pod, node: h}
	err := t.prepare(ctx, hostName)
	if err != nil {
		t.Close()
	}
	return t, err
}

// Close closes the connection to the host.
func (t *Transfer) Close() {
	if t.host != nil {
		t.host.Close()
	}
}

func (t *Transfer) prepare(ctx context.Context, hostName string) (err error) {
	h := t.node
	id, err := h.Identify(t.request.Device)
	if err != nil {
		return h.NoDevice(t.request.Device, err)
	}
	t.Journal.Identity = id
	d, err := h.Look(t.request.Device)
	if err != nil {
		return err
	}
	t.device, t.Journal.VFIndex = d, d.Index
	if t.host, err = link.Open(nil); err != nil {
		return err
	}
	if !d.Physfn {
		if err := h.RefuseUnlisted(d.Address); err != nil {
			return err
		}
	}
	l, err := h.Interface(t.host, d)
	if err != nil {
		return err
	}
	if err := t.prepareAdmin(ctx); err != nil {
		return err
	}
	if err := t.prepareLink(l, hostName); err != nil {
		return err
	}
	if err := t.settleMTU(); err != nil {
		return err
	}
	// DEL would not touch a VF that is another than the journal's.
	if now, err := h.Identify(d.Address); err != nil || now != id {
		return cnierr.Busy(errors.Join(fmt.Errorf("VF %s was made anew meanwhile", d.Address), err), "the next try finds it")
	}
	return nil
}

func (t *Transfer) prepareLink(l link.Link, hostName string) error {
	d := t.device
	switch {
	case d.Netdev != "":
		if l.Type == libsriov.LinkInfiniBand {
			return cnierr.New(cnierr.Device, fmt.Errorf("interface %s of VF %s is InfiniBand", l.Name, d.Address),
				"this plugin is for Ethernet; use one for InfiniBand networks")
		}
		t.link, t.Journal.Link = &l, state.LinkOf(l)
		if hostName != "" {
			t.Journal.Link.Name = hostName
		}
	case !d.Userspace:
		return cnierr.New(cnierr.Device, fmt.Errorf("VF %s does not have a interface name or a dpdk driver (driver: %q)", d.Address, d.Driver),
			"its interface is in another network namespace, or no driver is bound to it")
	case t.request.MTU != 0:
		return cnierr.New(types.ErrInvalidNetworkConfig,
			fmt.Errorf("invalid mtu %d: VF %s has no interface to set it on, its driver is %s", t.request.MTU, d.Address, d.Driver), "")
	}
	return nil
}

// prepareAdmin reads what the PF enforces and settles what it shall.
func (t *Transfer) prepareAdmin(ctx context.Context) error {
	before, err := t.device.Admin(ctx, t.host, t.request.NeedsPF() != "")
	lack := ""
	switch {
	case t.device.PF == nil:
		lack = "no PF is in sight"
	case errors.Is(err, link.ErrNoVFReported) && t.request.NeedsPF() == "":
		slog.Warn("the PF reports none of its VFs; what it enforces for the VF is not known", "pf", t.device.PF.Name, "err", err)
		t.blind, t.device.PF = t.device.PF, nil
		return nil
	case errors.Is(err, link.ErrNoVFSettings):
		lack = "its PF's driver (" + t.device.PF.Driver + ") knows no settings of VFs"
		t.device.PF = nil
	case err != nil:
		return err
	}
	if lack != "" {
		if what := t.request.NeedsPF(); what != "" {
			return cnierr.New(cnierr.Device, fmt.Errorf("SRIOV-CNI failed to configure VF %s: failed to get VF information: %s is the PF's to set, and %s",
				t.device.Address, what, lack), "leave the setting out; inside a virtual machine, make it on the host")
		}
		return nil
	}
	t.Journal.PF, t.Journal.Before = &t.device.PF.Address, before
	want, err := t.request.Want(before)
	if err != nil {
		return err
	}
	t.Journal.Want = vfstate.Diff(before, want)
	return nil
}

func (t *Transfer) settleMTU() error {
	switch {
	case t.request.MTU != 0:
		t.mtu = t.request.MTU
	case t.link != nil:
		t.mtu = t.link.MTU
	case t.device.PF != nil:
		pf, err := t.host.ByIndex(t.device.PF.IfIndex)
		if err != nil {
			return err
		}
		t.mtu = pf.MTU
	}
	return nil
}

// Execute does what the journal says, which is on disk by now and undoes what is
// left half-done.
func (t *Transfer) Execute(ctx context.Context) error {
	late, err := t.setMAC(ctx)
	if err != nil {
		return t.setup(err, "")
	}
	if t.device.PF != nil {
		if err := t.setAdmin(ctx, t.Journal.Want); err != nil {
			return err
		}
	}
	if err := t.setBlindly(); err != nil {
		return err
	}
	if t.link == nil {
		return nil
	}
	if err := t.unusedStill(); err != nil {
		return err
	}
	name := t.Journal.Owner.IfName
	err = vf.Patiently(ctx, nil, vf.IsBusy, func() error { return moveIn(t.host, t.pod, *t.link, name, t.mtu) })
	switch {
	case errors.Is(err, unix.EEXIST):
		return t.setup(err, "the pod has an interface of that name already")
	case err != nil:
		return t.setup(err, "")
	}
	// optimistic_dad counts only if set before the interface is up.
	if err := writeSysctls(t.pod.NS, name, announcing); err != nil {
		return t.setup(err, "")
	}
	if late {
		if err := t.awaitMAC(ctx); err != nil {
			return err
		}
	}
	if err := vf.Patiently(ctx, t.pod.NS, vf.IsBusy, func() error { return t.pod.SetUp(name, true) }); err != nil {
		return t.setup(err, "")
	}
	if t.takesMACLate() {
		l, err := t.pod.ByName(name)
		if err != nil {
			return t.setup(err, "")
		}
		t.opened = l.MAC
	}
	return nil
}

// takesMACLate reports whether the interface may show another MAC once it is up in the pod: one
// that the PF set, and that igb's VFs take over when they are closed.
func (t *Transfer) takesMACLate() bool {
	enforced := t.Journal.Before.MAC
	return t.request.MAC == nil && (t.blind != nil || !value.NoMAC(enforced) && !slices.Equal(enforced, t.link.MAC))
}

// unusedStill looks again, right before the move, whether the host uses the interface:
// what the PF had to do may have taken seconds, and network managers are quick.
func (t *Transfer) unusedStill() error {
	err := t.node.RefuseHostUse(t.host, t.device.Address, *t.link)
	if errors.Is(err, link.ErrNotFound) { // or it has another name by now
		var l link.Link
		if l, err = t.host.ByIndex(t.link.Index); err == nil {
			err = t.node.RefuseHostUse(t.host, t.device.Address, l)
		}
	}
	if errors.Is(err, link.ErrNotFound) {
		return cnierr.Busy(fmt.Errorf("interface %s of VF %s: %w", t.link.Name, t.device.Address, err), "its driver, or somebody else, took it away; the next try looks again")
	}
	return err
}

func (t *Transfer) setup(err error, hint string) error {
	if err == nil {
		return nil
	}
	return cnierr.New(cnierr.Move, fmt.Errorf("failed to set up pod interface %s: %w", t.Journal.Owner.IfName, err), hint)
}

// setMAC gives the VF's interface its MAC before the PF is told the same: igb and
// its like refuse the VF any change once the PF has set one, even that one. Other
// drivers refuse it to a VF that is not trusted, each with an error of its own.
// late is true after any refusal: then the PF comes first.
func (t *Transfer) setMAC(ctx context.Context) (late bool, err error) {
	if t.link == nil || t.request.MAC == nil || slices.Equal(t.request.MAC, t.link.MAC) {
		return false, nil
	}
	err = t.host.Set(t.link.Index, link.Update{MAC: t.request.MAC})
	if vf.IsBusy(err) && t.device.PF == nil {
		err = vf.Patiently(ctx, nil, vf.IsBusy, func() error { return t.host.Set(t.link.Index, link.Update{MAC: t.request.MAC}) })
	}
	if err == nil || t.device.PF == nil {
		return false, err
	}
	slog.Debug("the VF may not choose its MAC, its PF sets it", "err", err)
	t.Journal.MACLocked = true
	return true, state.Save(t.store.JournalPath(t.device.Address), t.Journal)
}

// awaitMAC sees to it that the interface in the pod, which is down, has the MAC
// that the PF set.
func (t *Transfer) awaitMAC(ctx context.Context) error {
	l, err := t.pod.ByName(t.Journal.Owner.IfName)
	if err == nil {
		err = vf.SettleMAC(ctx, t.pod.Conn, t.pod.NS, l, t.request.MAC)
	}
	if err != nil {
		return t.setup(fmt.Errorf("effective mac address is different from %s: %w", t.request.MAC, err),
			"the driver does not let the VF have the MAC that its PF set")
	}
	return nil
}

// setAdmin has the PF enforce a state.
func (t *Transfer) setAdmin(ctx context.Context, s vfstate.State) error {
	err := t.device.SetAdmin(ctx, t.host, s)
	if err == nil {
		return nil
	}
	pf := t.device.PF
	return cnierr.New(cnierr.Admin, fmt.Errorf("SRIOV-CNI failed to configure VF %s: PF %s (%s): %w", t.device.Address, pf.Name, pf.Driver, err),
		t.device.Hint(t.host, err))
}

// setBlindly has a PF that reports none of its VFs put the VF into no VLAN, if that is
// asked for. If the driver has no such setting there is none; if it fails in another
// way, the PF resets, and the VF may be in a VLAN that somebody left it in.
func (t *Transfer) setBlindly() error {
	if t.blind == nil {
		return nil
	}
	d := t.device
	d.PF = t.blind
	err := d.SetUnseen(t.host, vfstate.State{VLAN: t.request.Admin.VLAN})
	if err == nil {
		return nil
	}
	return cnierr.Busy(fmt.Errorf("SRIOV-CNI failed to configure VF %s: PF %s (%s) reports none of its VFs: %w", d.Address, d.PF.Name, d.PF.Driver, err),
		"the PF resets, or its driver hangs; see the kernel's log")
}

// Configure gives the interface in the pod, which is up, the addresses that IPAM
// leased; nothing for a VF without one.
func (t *Transfer) Configure(leased *types100.Result) (*link.Link, error) {
	if leased == nil || t.link == nil {
		return nil, nil
	}
	name := t.Journal.Owner.IfName
	l, err := t.pod.ByName(name)
	if err == nil && hasIPv6(leased) {
		err = writeSysctls(t.pod.NS, name, withIPv6)
	}
	if err == nil {
		err = configure(t.pod.Conn, l.Index, leased)
	}
	if err != nil {
		return nil, cnierr.New(cnierr.Move, fmt.Errorf("failed to configure interface %s: %w", name, err), "")
	}
	return &l, nil
}

// Record composes the attachment's record, which the SR-IOV CNI plugin that this one replaces
// can read, too.
func (t *Transfer) Record() ([]byte, error) {
	pfName := ""
	if t.device.PF != nil {
		pfName = t.device.PF.Name
	}
	return state.ComposeRecord(t.request, t.Journal, pfName)
}

// Pod is a connection in the pod's network namespace.
type Pod struct {
	*link.Conn
	NS   *os.File
	Home *os.File // the host's namespace
}
