// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/sriovkit/sriovkit/sriov-cni/attach"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/sriovkit/sriovkit/sriov-cni/internal/delegate"
	"github.com/sriovkit/sriovkit/sriov-cni/repair"
	"github.com/sriovkit/sriovkit/sriov-cni/request"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
	"golang.org/x/sys/unix"
)

// check compares the pod's VF with what ADD was asked for and with its result. It
// changes nothing, takes no lock, and reports every difference.
func (c *call) check(ctx context.Context) error {
	r, err := request.Parse(c.StdinData, c.Args)
	if err == nil {
		err = r.NamesFiles(c.files())
	}
	if err != nil {
		return err
	}
	prev, err := previous(r.Conf.NetConf)
	if err != nil {
		return err
	}
	j, held, err := c.heldForCheck(r)
	if err != nil {
		return err
	}
	if !held {
		return cnierr.New(cnierr.Check, fmt.Errorf("VF %s is not attached to container %s as %s", r.Device, c.ContainerID, c.IfName), "")
	}
	var shown net.HardwareAddr // MAC of the interface in the pod
	var podErr error
	if j.Link != nil {
		shown, podErr = c.checkPod(r, prev)
	}
	if err := errors.Join(c.checkAdmin(ctx, r, j, prev, shown), podErr); err != nil {
		return cnierr.New(cnierr.Check, err, "")
	}
	if ipam := c.conf.IPAM.Type; ipam != "" {
		_, err := delegate.Run(ctx, ipam, "CHECK", c.StdinData)
		return attach.IPAMError("CHECK", ipam, err)
	}
	return nil
}

// previous returns prevResult: the result of ADD, or of the last plugin of the chain.
func previous(c types.NetConf) (*types100.Result, error) {
	if c.RawPrevResult == nil {
		return nil, cnierr.New(types.ErrInvalidNetworkConfig, errors.New("CHECK needs prevResult, the result of ADD"), "")
	}
	raw, err := json.Marshal(c.RawPrevResult)
	if err == nil {
		err = delegate.CheckResult(raw)
	}
	if err == nil {
		err = version.ParsePrevResult(&c)
	}
	if err == nil {
		var prev *types100.Result
		if prev, err = types100.NewResultFromResult(c.PrevResult); err == nil {
			return prev, nil
		}
	}
	return nil, cnierr.New(types.ErrDecodingFailure, fmt.Errorf("prevResult: %w", err), "")
}

func (c *call) heldForCheck(r request.Request) (state.Journal, bool, error) {
	a := c.attachment()
	rec, err := c.repairer().LoadRecord(c.store.RecordPath(a), a)
	if err != nil || rec.Device != r.Device.String() {
		return state.Journal{}, false, err
	}
	return c.repairer().Held(r.Device, rec, repair.Claimant{Attachment: a, NetNS: c.Netns})
}

// checkAdmin compares the VF's administrative state with what was asked for. A MAC
// that differs is accepted in two cases: it is the one in prevResult, because a later
// plugin of the chain (tuning, bond) has set it; or the VF is trusted and has chosen it
// itself, which some drivers then report as the administrative MAC.
func (c *call) checkAdmin(ctx context.Context, r request.Request, j state.Journal, prev *types100.Result, shown net.HardwareAddr) error {
	if j.PF == nil {
		return nil
	}
	d, err := c.host.Look(r.Device)
	if err != nil {
		return err
	}
	host, err := link.Open(nil)
	if err != nil {
		return err
	}
	defer host.Close()
	have, err := d.Admin(ctx, host, true)
	if err != nil {
		return err
	}
	want, err := r.Want(have)
	if err != nil {
		return err
	}
	if mac, _ := prevMAC(prev, c.IfName); slices.Equal(have.MAC, mac) || have.Trust == vfstate.On && slices.Equal(have.MAC, shown) {
		want.MAC = nil
	}
	var errs []error
	for _, part := range vfstate.Diff(have, want).Split() {
		errs = append(errs, fmt.Errorf("VF %s: %s is not %s any more", r.Device, part.Attr, part.Value))
	}
	return errors.Join(errs...)
}

// checkPod compares the interface in the pod with prevResult, and returns its MAC.
func (c *call) checkPod(r request.Request, prev *types100.Result) (shown net.HardwareAddr, err error) {
	f, _, err := state.Namespace{Path: c.Netns}.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	pod, err := link.Open(f)
	if err != nil {
		return nil, err
	}
	defer pod.Close()
	l, err := pod.ByName(c.IfName)
	if err != nil {
		return nil, err
	}
	var errs []error
	differs := func(what string, is, want any) {
		errs = append(errs, fmt.Errorf("interface %s: %s is %v, want %v", c.IfName, what, is, want))
	}
	if l.Parent != "" && l.ParentBus == "pci" && l.Parent != r.Device.String() {
		differs("device", l.Parent, r.Device)
	}
	if !l.Up() {
		differs("state", "down", "up")
	}
	if r.MTU != 0 && l.MTU != r.MTU {
		differs("mtu", l.MTU, r.MTU)
	}
	if want, ok := prevMAC(prev, c.IfName); ok && !slices.Equal(want, l.MAC) && l.Master == 0 { // all ports of a bond have the same MAC
		differs("mac", l.MAC, want)
	}
	return l.MAC, errors.Join(append(errs, checkAddresses(pod, l.Index, c.IfName, prev))...)
}

// prevMAC returns the MAC of the pod's interface in prevResult.
func prevMAC(prev *types100.Result, ifname string) (net.HardwareAddr, bool) {
	for _, i := range prev.Interfaces {
		if i.Name == ifname && i.Sandbox != "" {
			mac, err := net.ParseMAC(i.Mac)
			return mac, err == nil
		}
	}
	return nil, false
}

// checkAddresses returns an error for each address and route of prevResult that is
// missing. There may be others, for instance from later plugins of the chain.
func checkAddresses(pod *link.Conn, index int, ifname string, prev *types100.Result) error {
	addresses, err := pod.Addresses(index)
	if err != nil {
		return err
	}
	var errs []error
	for _, ip := range prev.IPs {
		if ip.Interface == nil || *ip.Interface < 0 || *ip.Interface >= len(prev.Interfaces) || prev.Interfaces[*ip.Interface].Name != ifname {
			continue
		}
		if want, err := attach.Prefix(ip.Address); err != nil || !slices.Contains(addresses, want) {
			errs = append(errs, fmt.Errorf("interface %s: address %s is missing", ifname, &ip.Address))
		}
	}
	if len(prev.Routes) == 0 {
		return errors.Join(errs...)
	}
	routes, err := pod.Routes()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, r := range prev.Routes {
		table, gateway := unix.RT_TABLE_MAIN, attach.Addr(r.GW)
		if r.Table != nil && *r.Table != 0 {
			table = *r.Table
		}
		want, err := attach.Prefix(r.Dst)
		if err != nil || !slices.ContainsFunc(routes, func(r link.Route) bool {
			return r.Dst == want.Masked() && r.Table == table && (!gateway.IsValid() || r.Gateway == gateway)
		}) {
			errs = append(errs, fmt.Errorf("route %s is missing", &r.Dst))
		}
	}
	return errors.Join(errs...)
}
