// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
)

// Names of checks that others, or the row, refer to.
const (
	settingPrefix = "setting: "
	vlansApart    = "VLANs keep VFs apart"
	spoofCheck    = "spoof check drops frames"
	vfio          = "vfio-pci and back"
	pluginCycle   = "plugin: ADD, CHECK, DEL"
	pluginKills   = "plugin: DEL after kills"
)

// checks is everything that is tried, in order. To make VFs takes longest, so they are made
// once: those that send come first, as one with a MAC of its PF's may not send with its own,
// settings are tried on the last VF, and the plugin finds the first one as it was made.
func (k *Kit) checks() []check {
	all := []check{
		{"VF count", own, k.tryCount},
		{"reports of VFs", fresh, k.tryReports},
		{vlansApart, usable, k.tryVLANs},
		{spoofCheck, usable, k.trySpoofCheck},
	}
	for _, s := range settings {
		all = append(all, check{settingPrefix + s.name, usable, func(ctx context.Context) error { return k.trySetting(ctx, s) }})
	}
	return append(all,
		check{"trust", usable, k.tryTrust},
		check{"MTU of a VF", usable, k.tryMTU},
		check{"moves", usable, k.tryMoves},
		check{vfio, usable, k.tryVFIO},
		check{pluginCycle, usable, k.attached(k.tryPlugin)},
		check{"plugin: DEL after the namespace", usable, k.attached(k.tryPluginNamespaceGone)},
		check{pluginKills, usable, k.attached(k.tryPluginKills)},
	)
}

// names are those of checks, for people.
func names(checks []check) string {
	var all []string
	for _, c := range checks {
		all = append(all, c.name)
	}
	return strings.Join(all, ", ")
}

// last is the number of the VF whose settings are tried.
func (k *Kit) last() int { return len(k.pf.VFs) - 1 }

// tryCount makes as many VFs as the PF has, one more than it has, and none.
func (k *Kit) tryCount(ctx context.Context) error {
	if err := k.make(ctx, k.pf.TotalVFs); err != nil {
		return err
	}
	for _, vf := range k.pf.VFs {
		if vf.PF != k.PF {
			return fmt.Errorf("VF %s belongs to %s", vf.Address, vf.PF)
		}
		if err := k.awaitInterface(ctx, vf.Address); err != nil {
			return err
		}
	}
	if err := k.host.SetNumVFs(ctx, k.PF, 0); err != nil {
		return err
	}
	if err := k.host.SetNumVFs(ctx, k.PF, k.pf.TotalVFs+1); !errors.Is(err, libsriov.ErrTooManyVFs) {
		return fmt.Errorf("%d VFs, one too many, want %w; got: %w", k.pf.TotalVFs+1, libsriov.ErrTooManyVFs, orNothing(err))
	}
	return nil
}

// orNothing returns err, or an error that says that there was none.
func orNothing(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

// awaitInterface waits until a VF has its interface. The kernel ends namespaces in the
// background, one after the other, and closes the interfaces in them.
func (k *Kit) awaitInterface(ctx context.Context, vf libsriov.Address) error {
	return until(ctx, 2*time.Minute, func() error {
		_, err := k.links.ByParent(vf)
		return err
	})
}

// until tries again until there is no error, and returns the last one after a while.
// There is no event for what a NIC has not done yet.
func until(ctx context.Context, limit time.Duration, try func() error) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := try()
		var last final
		if err == nil || errors.As(err, &last) {
			return err
		}
		select {
		case <-deadline.C:
			return err
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-again.C:
		}
	}
}

// final is an error that no further try will change.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// tryReports wants every VF in the PF's report.
func (k *Kit) tryReports(ctx context.Context) error {
	err := until(ctx, k.Patience, func() error {
		states, err := k.links.VFStates(k.uplink.Index)
		switch {
		case err != nil:
			return err
		case len(states) == 0:
			return final{refusal{errors.New("the driver reports nothing of its VFs")}}
		case len(states) != k.VFs:
			return fmt.Errorf("%d of %d VFs are in the PF's report", len(states), k.VFs)
		}
		return nil
	})
	return err
}

// setting is something that a PF sets for a VF.
type setting struct {
	name string
	on   vfstate.State // to be found in the report after it was set
	off  vfstate.State // to be set after that, for the checks that follow
}

var settings = []setting{
	{"MAC", vfstate.State{MAC: net.HardwareAddr{2, 0, 0x88, 0xb5, 0, 1}}, vfstate.State{}},
	{"VLAN", vfstate.State{VLAN: &vfstate.VLAN{ID: 100}}, vfstate.State{VLAN: &vfstate.VLAN{}}},
	{"VLAN priority", vfstate.State{VLAN: &vfstate.VLAN{ID: 100, QoS: 3}}, vfstate.State{VLAN: &vfstate.VLAN{}}},
	{"802.1ad", vfstate.State{VLAN: &vfstate.VLAN{ID: 100, Proto: vfstate.Proto8021AD}}, vfstate.State{VLAN: &vfstate.VLAN{}}},
	{"spoof check off", vfstate.State{SpoofCheck: vfstate.Off}, vfstate.State{}},
	{"spoof check on", vfstate.State{SpoofCheck: vfstate.On}, vfstate.State{}},
	{"trust", vfstate.State{Trust: vfstate.On}, vfstate.State{Trust: vfstate.Off}},
	{"max rate", vfstate.State{Rate: &vfstate.Rate{Max: 100}}, vfstate.State{Rate: &vfstate.Rate{}}},
	{"min rate", vfstate.State{Rate: &vfstate.Rate{Min: 10, Max: 100}}, vfstate.State{Rate: &vfstate.Rate{}}},
	{"link state", vfstate.State{LinkState: vfstate.LinkEnable}, vfstate.State{LinkState: vfstate.LinkAuto}},
	{"RSS query", vfstate.State{QueryRSS: vfstate.On}, vfstate.State{QueryRSS: vfstate.Off}},
}

// trySetting sets something, wants it in the report, and takes it back.
func (k *Kit) trySetting(ctx context.Context, s setting) error {
	for _, want := range []vfstate.State{s.on, s.off} {
		if err := k.set(ctx, k.last(), want); err != nil {
			return err
		}
		err := until(ctx, k.Patience, func() error {
			have, err := k.links.VFState(k.uplink.Index, k.last())
			if err != nil {
				return err
			}
			for _, p := range vfstate.Diff(have, want).Split() {
				return fmt.Errorf("the driver accepted %s %s and does not report it: not in force, or not told", p.Attr, p.Value)
			}
			return nil
		})
		if err != nil {
			return errors.Join(err, k.set(ctx, k.last(), s.off))
		}
	}
	return nil
}

// set makes the PF's settings of a VF, each by itself: it waits for a PF that is busy, as
// with a reset of the VF, and a setting that was made must not be made again, which would
// reset the VF once more.
func (k *Kit) set(ctx context.Context, vf int, s vfstate.State) error {
	for _, part := range s.Split() {
		err := until(ctx, k.Patience, func() error {
			err := k.links.SetVF(k.uplink.Index, vf, part.State)
			if err != nil && !isPassing(err) {
				return final{refusal{err}}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// isPassing reports whether an error says "not now" and not "no".
func isPassing(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EINTR)
}

// tryTrust sets a MAC for a VF, lets the VF try another, and then trusts it.
func (k *Kit) tryTrust(ctx context.Context) error {
	vf := k.pf.VFs[k.last()].Address
	given, other := net.HardwareAddr{2, 0, 0x88, 0xb5, 0, 2}, net.HardwareAddr{2, 0, 0x88, 0xb5, 0, 3}
	if err := k.set(ctx, k.last(), vfstate.State{MAC: given, Trust: vfstate.Off}); err != nil {
		return err
	}
	change := func(mac net.HardwareAddr) error {
		return until(ctx, k.Patience, func() error {
			l, err := k.links.ByParent(vf)
			if err != nil {
				return err
			}
			err = k.links.Set(l.Index, link.Update{MAC: mac})
			if err != nil && !isPassing(err) {
				return final{refusal{err}}
			}
			return err
		})
	}
	untrusted := change(other)
	if err := k.set(ctx, k.last(), vfstate.State{Trust: vfstate.On}); err != nil {
		return err
	}
	if err := change(net.HardwareAddr{2, 0, 0x88, 0xb5, 0, 4}); err != nil {
		return fmt.Errorf("a trusted VF may not change its MAC: %w", err)
	}
	if untrusted == nil {
		return notice("a VF that is not trusted may change the MAC its PF has set as well; only the spoof check holds it")
	}
	return nil
}

// tryMTU lowers the MTU of a VF and sets it back.
func (k *Kit) tryMTU(context.Context) error {
	l, err := k.links.ByParent(k.pf.VFs[0].Address)
	if err != nil {
		return err
	}
	for _, mtu := range []int{1400, l.MTU} {
		if err := k.links.Set(l.Index, link.Update{MTU: mtu}); err != nil {
			return err
		}
		now, err := k.links.ByIndex(l.Index)
		if err != nil {
			return err
		}
		if now.MTU != mtu {
			return fmt.Errorf("MTU is %d after it was set to %d", now.MTU, mtu)
		}
	}
	return nil
}

// tryMoves sends a VF's interface to a namespace and back, and lets it come back by
// itself when a namespace ends.
func (k *Kit) tryMoves(ctx context.Context) error {
	vf := k.pf.VFs[1].Address
	was, err := k.links.ByParent(vf)
	if err != nil {
		return err
	}
	home, err := os.Open("/proc/thread-self/ns/net") // the first thread may be in a namespace that newPod made
	if err != nil {
		return err
	}
	defer home.Close()
	pod, err := newPod()
	if err != nil {
		return err
	}
	defer pod.close()
	if err := k.links.Move(was, home, pod.links, link.Update{NetNS: pod.file, Name: "net1", MTU: 1400}); err != nil {
		return err
	}
	there, err := pod.links.ByName("net1")
	if err != nil {
		return err
	}
	if there.MTU != 1400 {
		return fmt.Errorf("MTU is %d after a move with MTU 1400", there.MTU)
	}
	if err := pod.links.Set(there.Index, link.Update{NetNS: home, Name: was.Name, MTU: was.MTU}); err != nil {
		return err
	}
	if was, err = k.links.ByParent(vf); err != nil { // its index may be another one
		return err
	}
	if err := k.links.Move(was, home, pod.links, link.Update{NetNS: pod.file, Name: "net1"}); err != nil {
		return fmt.Errorf("second move: %w", err)
	}
	pod.close()
	if err := k.awaitInterface(ctx, vf); err != nil {
		return fmt.Errorf("after its namespace has ended: %w", err)
	}
	return nil
}

// tryVFIO binds a VF to vfio-pci and gives it its driver back.
func (k *Kit) tryVFIO(ctx context.Context) error {
	const driver = "vfio-pci"
	if _, err := os.Stat("/sys/bus/pci/drivers/" + driver); err != nil {
		return skip("vfio-pci is not loaded: modprobe vfio-pci")
	}
	vf := k.pf.VFs[0]
	if _, ok, err := k.host.IOMMUGroup(vf.Address); err != nil || !ok {
		return errors.Join(err, skip("the VF has no IOMMU group: is the IOMMU on (intel_iommu=on, firmware)?"))
	}
	if err := k.host.BindDriver(ctx, vf.Address, driver); err != nil {
		return err
	}
	node, err := k.host.VFIONode(vf.Address)
	if err == nil {
		_, err = os.Stat(node.Host)
	}
	err = errors.Join(err, k.host.ResetDriver(ctx, vf.Address))
	if err != nil {
		return err
	}
	now, err := k.host.Driver(vf.Address)
	if err != nil {
		return err
	}
	if now != vf.Driver {
		return fmt.Errorf("driver is %q afterwards and was %q", now, vf.Driver)
	}
	return k.awaitInterface(ctx, vf.Address)
}
