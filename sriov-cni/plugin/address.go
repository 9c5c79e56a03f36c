package plugin

import (
	"errors"
	"fmt"
	"net"
	"os"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// sysctls are settings of an interface, as paths below /proc/sys/net with the
// interface's name in the place of %s. See
// https://docs.kernel.org/networking/ip-sysctl.html.
type sysctl struct {
	path, value string
	needed      bool // its lack is an error, as opposed to a kernel without it
}

// announcing has the kernel announce addresses again when the link returns, and
// use its own IPv6 addresses while it still checks that they are unique.
var announcing = []sysctl{
	{path: "ipv4/conf/%s/arp_notify", value: "1"},
	{path: "ipv6/conf/%s/ndisc_notify", value: "1"},
	{path: "ipv6/conf/%s/optimistic_dad", value: "1"},
}

// withIPv6 makes IPv6 addresses possible, which the container runtime may have
// turned off, and has them survive the pod's setting the interface down.
var withIPv6 = []sysctl{
	{path: "ipv6/conf/%s/disable_ipv6", value: "0", needed: true},
	{path: "ipv6/conf/%s/keep_addr_on_down", value: "1"},
}

// writeSysctls writes settings of an interface in the pod. procfs shows each
// thread its own namespace's.
func writeSysctls(podPath, ifname string, settings []sysctl) error {
	return ns.WithNetNSPath(podPath, func(ns.NetNS) error {
		for _, s := range settings {
			path := "/proc/sys/net/" + fmt.Sprintf(s.path, ifname)
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteString(s.value)
				err = errors.Join(err, f.Close())
			}
			if err != nil && s.needed {
				return err
			}
		}
		return nil
	})
}

func hasIPv6(result *types100.Result) bool {
	for _, ip := range result.IPs {
		if ip.Address.IP.To4() == nil {
			return true
		}
	}
	return false
}

// configure gives an interface of the pod, which is up, its addresses and
// routes. IPv6 addresses are usable at once: IPAM vouches that they are unique,
// so the kernel need not ask the neighbours for a second (IFA_F_NODAD).
func configure(podNS *os.File, index int, result *types100.Result) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(podNS.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	l := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}
	var gateway4, gateway6 net.IP // of routes that name none
	for _, ip := range result.IPs {
		addr := &netlink.Addr{IPNet: &ip.Address}
		gateway := &gateway4
		if ip.Address.IP.To4() == nil {
			addr.Flags, gateway = unix.IFA_F_NODAD, &gateway6
		}
		if err := h.AddrAdd(l, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add address %s: %w", &ip.Address, err)
		}
		if *gateway == nil && ip.Gateway != nil {
			*gateway = ip.Gateway
		}
	}
	for _, r := range result.Routes {
		route := netlink.Route{LinkIndex: index, Dst: &r.Dst, Gw: r.GW, MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority}
		if r.Table != nil {
			route.Table = *r.Table
		}
		if r.Scope != nil {
			route.Scope = netlink.Scope(*r.Scope)
		}
		if route.Gw == nil {
			if route.Gw = gateway4; r.Dst.IP.To4() == nil {
				route.Gw = gateway6
			}
		}
		if err := h.RouteAddEcmp(&route); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add route %s via %s: %w", &r.Dst, route.Gw, err)
		}
	}
	return nil
}
