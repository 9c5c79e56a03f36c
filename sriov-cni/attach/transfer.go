// SPDX-License-Identifier: Apache-2.0

// Package attach moves a VF into a pod: it reads the VF's original state and checks the
// request against it (Prepare), and changes the VF only after the caller has saved the
// journal of both (Execute).
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

// Transfer is the attachment of a VF to a pod in progress.
type Transfer struct {
	Journal state.Journal

	request request.Request
	store   state.Store
	pod     Pod
	node    *vf.Host
	host    *link.Conn
	device  vf.Device
	link    *link.Link       // the interface before the transfer; nil if a user-space driver has the VF
	blind   *vf.PF           // the PF, if its driver reports none of its VFs: see setBlindly; nil otherwise
	opened  net.HardwareAddr // MAC of the interface once it was up in the pod; nil if that was not read
	mtu     int              // of the VF in the pod or, without an interface, of its PF; 0 if not known
}

// Prepare reads the state of a VF, returns an error if the VF cannot be given to a pod as
// requested, and completes the journal, which the caller saves. hostName is the name that
// DEL restores, if it is not the present one.
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
	// All of the above has to be about the same VF: DEL restores only one with the
	// journal's identity.
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

// prepareAdmin reads the VF's administrative state and computes what is to be changed.
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

// Execute configures the VF as the journal says and moves it into the pod. The journal
// must have been saved. After an error the caller restores the VF from it.
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
	if err := t.refuseHostUse(); err != nil {
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
	// optimistic_dad has an effect only if it is set before the interface is up.
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

// takesMACLate reports whether the interface may have another MAC once it is up in the pod: an
// administrative one that its driver had not taken over yet. igbvf does so when the interface
// is closed, which the move into the pod does.
func (t *Transfer) takesMACLate() bool {
	enforced := t.Journal.Before.MAC
	return t.request.MAC == nil && (t.blind != nil || !value.NoMAC(enforced) && !slices.Equal(enforced, t.link.MAC))
}

// refuseHostUse returns an error if the host uses the interface. It was checked before; but
// the PF may have taken seconds since, in which a network manager may have configured the
// interface.
func (t *Transfer) refuseHostUse() error {
	err := t.node.RefuseHostUse(t.host, t.device.Address, *t.link)
	if errors.Is(err, link.ErrNotFound) { // it may have been renamed
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

// setMAC sets the MAC of the VF's interface, before the PF sets the same: once the PF has
// set one, drivers such as igb refuse the VF any change. Other drivers refuse it to an
// untrusted VF, each with another errno. late is true after a refusal: the interface then
// gets its MAC after the PF has set it (see awaitMAC).
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

// awaitMAC makes the interface in the pod, which is down, take over the MAC that the PF
// has set.
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

// setAdmin sets the VF's administrative state through its PF.
func (t *Transfer) setAdmin(ctx context.Context, s vfstate.State) error {
	err := t.device.SetAdmin(ctx, t.host, s)
	if err == nil {
		return nil
	}
	pf := t.device.PF
	return cnierr.New(cnierr.Admin, fmt.Errorf("SRIOV-CNI failed to configure VF %s: PF %s (%s): %w", t.device.Address, pf.Name, pf.Driver, err),
		t.device.Hint(t.host, err))
}

// setBlindly sets VLAN 0, if that is asked for, through a PF that reports none of its VFs. A
// driver without that setting has no VLANs either, which is no error. Other failures are: the
// PF may be resetting, and the VF may be in a VLAN that was left on it.
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

// Configure sets the leased addresses and routes on the interface in the pod, which is up,
// and returns the interface. It returns nil for a VF without an interface, or without a lease.
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

// Record returns the attachment's record, in a format that upstream's plugin can read.
func (t *Transfer) Record() ([]byte, error) {
	pfName := ""
	if t.device.PF != nil {
		pfName = t.device.PF.Name
	}
	return state.ComposeRecord(t.request, t.Journal, pfName)
}

// Pod is the pod's network namespace with a netlink connection in it.
type Pod struct {
	*link.Conn
	NS   *os.File
	Home *os.File // the host's network namespace
}
