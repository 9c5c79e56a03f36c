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
	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// check compares the pod's VF with what ADD was asked for and reported. It
// changes nothing, takes no lock, and reports every difference it finds.
func (p *Plugin) check(ctx context.Context, args *skel.CmdArgs, c conf) error {
	r, err := parseRequest(args.StdinData, args.Args)
	if err != nil {
		return err
	}
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
	h, err := netlink.NewHandleAt(netns.NsHandle(f.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	defer h.Close()
	return errors.Join(append(errs, checkAddresses(netlinksafe.Handle{Handle: h}, l.Index, a.IfName, prev))...)
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
func checkAddresses(h netlinksafe.Handle, index int, ifname string, prev *types100.Result) error {
	l := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}
	addresses, err := h.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	var errs []error
	for _, ip := range prev.IPs {
		if ip.Interface == nil || *ip.Interface < 0 || *ip.Interface >= len(prev.Interfaces) || prev.Interfaces[*ip.Interface].Name != ifname {
			continue
		}
		if !slices.ContainsFunc(addresses, func(a netlink.Addr) bool { return a.IPNet.String() == ip.Address.String() }) {
			errs = append(errs, fmt.Errorf("interface %s: address %s is missing", ifname, &ip.Address))
		}
	}
	if len(prev.Routes) == 0 {
		return errors.Join(errs...)
	}
	routes, err := h.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, want := range prev.Routes {
		if want.Table != nil && *want.Table != unix.RT_TABLE_MAIN {
			continue // RouteList shows the main table only
		}
		if !slices.ContainsFunc(routes, func(r netlink.Route) bool {
			return destination(r.Dst) == destination(&want.Dst) && (want.GW == nil || want.GW.Equal(r.Gw))
		}) {
			errs = append(errs, fmt.Errorf("route %s is missing", &want.Dst))
		}
	}
	return errors.Join(errs...)
}

// destination spells a route's prefix. The kernel has none for a default route,
// configurations write it as 0.0.0.0/0 or ::/0.
func destination(n *net.IPNet) string {
	if n == nil {
		return "default"
	}
	if ones, _ := n.Mask.Size(); ones == 0 {
		return "default"
	}
	return n.String()
}
