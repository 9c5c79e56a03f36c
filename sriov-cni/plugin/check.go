package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"golang.org/x/sys/unix"
)

// check compares the pod's VF with what ADD was asked for and reported. It
// changes nothing, takes no lock, and reports every difference it finds.
func (p *Plugin) check(ctx context.Context, args *skel.CmdArgs, c conf) error {
	r, err := parseRequest(args.StdinData, args.Args)
	if err != nil {
		return err
	}
	c = r.conf
	if err := version.ParsePrevResult(&c.NetConf); err != nil {
		return &failure{Code: types.ErrDecodingFailure, Err: fmt.Errorf("prevResult: %w", err)}
	}
	if c.PrevResult == nil {
		return &failure{Code: types.ErrInvalidNetworkConfig, Err: errors.New("CHECK needs prevResult, the result of ADD")}
	}
	prev, err := types100.NewResultFromResult(c.PrevResult)
	if err != nil {
		return &failure{Code: types.ErrDecodingFailure, Err: fmt.Errorf("prevResult: %w", err)}
	}
	a := attachment{ContainerID: args.ContainerID, IfName: args.IfName}
	j, held, err := p.heldForCheck(r, a, args.Netns)
	if err != nil {
		return err
	}
	if !held {
		return &failure{Code: codeCheck, Err: fmt.Errorf("VF %s is not attached to container %s as %s", r.Device, a.ContainerID, a.IfName)}
	}
	errs := []error{p.checkAdmin(r, j)}
	if j.Link != nil {
		errs = append(errs, p.checkPod(r, a, args.Netns, prev))
	}
	if err := errors.Join(errs...); err != nil {
		return &failure{Code: codeCheck, Err: err}
	}
	if c.IPAM.Type != "" {
		if err := invoke.DelegateCheck(ctx, c.IPAM.Type, args.StdinData, nil); err != nil {
			return ipamError("CHECK", c.IPAM.Type, err)
		}
	}
	return nil
}

func (p *Plugin) heldForCheck(r request, a attachment, netns string) (journal, bool, error) {
	var rec record
	if err := load(p.store().recordPath(a), &rec); err != nil || rec.Device != r.Device.String() {
		return journal{}, false, nil // damaged or not there: DEL is what is left
	}
	return p.held(r.Device, rec, a, netns)
}

// checkAdmin compares what the PF enforces with what was asked for.
func (p *Plugin) checkAdmin(r request, j journal) error {
	if j.PF == nil {
		return nil
	}
	d, err := p.look(r.Device)
	if err != nil {
		return err
	}
	host, err := link.Open(nil)
	if err != nil {
		return err
	}
	defer host.Close()
	have, err := d.state(host)
	if err != nil {
		return err
	}
	want, err := r.admin(have)
	if err != nil {
		return err
	}
	var errs []error
	for _, part := range vfstate.Diff(have, want).Split() {
		errs = append(errs, fmt.Errorf("VF %s: %s is not %s any more", r.Device, part.Attr, part.Value))
	}
	return errors.Join(errs...)
}

// checkPod compares the interface with the result of ADD.
func (p *Plugin) checkPod(r request, a attachment, netnsPath string, prev *types100.Result) error {
	f, _, err := namespace{Path: netnsPath}.open()
	if err != nil {
		return err
	}
	defer f.Close()
	c, err := link.Open(f)
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := c.ByName(a.IfName)
	if err != nil {
		return err
	}
	var errs []error
	differs := func(what string, is, want any) {
		errs = append(errs, fmt.Errorf("interface %s: %s is %v, want %v", a.IfName, what, is, want))
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
	if want, ok := prevMAC(prev, a.IfName); ok && !slices.Equal(want, l.MAC) {
		differs("mac", l.MAC, want)
	}
	return errors.Join(append(errs, checkAddresses(c, l.Index, a.IfName, prev))...)
}

// prevMAC is the address that ADD reported for the pod's interface.
func prevMAC(prev *types100.Result, ifname string) (net.HardwareAddr, bool) {
	for _, i := range prev.Interfaces {
		if i.Name == ifname && i.Sandbox != "" {
			mac, err := net.ParseMAC(i.Mac)
			return mac, err == nil
		}
	}
	return nil, false
}

// checkAddresses looks for each address and route that ADD reported. Later
// plugins of a chain may have added others.
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
		if want, err := prefix(ip.Address); err != nil || !slices.Contains(addresses, want) {
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
		table, gateway := unix.RT_TABLE_MAIN, addr(r.GW)
		if r.Table != nil && *r.Table != 0 {
			table = *r.Table
		}
		want, err := prefix(r.Dst)
		if err != nil || !slices.ContainsFunc(routes, func(r link.Route) bool {
			return r.Dst == want.Masked() && r.Table == table && (!gateway.IsValid() || r.Gateway == gateway)
		}) {
			errs = append(errs, fmt.Errorf("route %s is missing", &r.Dst))
		}
	}
	return errors.Join(errs...)
}
