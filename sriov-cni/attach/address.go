// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/netns"
	"github.com/sriovkit/sriovkit/sriov-cni/internal/file"
	"golang.org/x/sys/unix"
)

// sysctl is a setting of an interface
// (https://docs.kernel.org/networking/ip-sysctl.html).
type sysctl struct {
	path   string // below /proc/sys/net, with %s for the interface's name
	value  string
	needed bool // failing to set it is an error; others the kernel may lack
}

// announcing has the kernel announce addresses again when the link comes up, and use
// IPv6 addresses while duplicate address detection is still running.
var announcing = []sysctl{
	{path: "ipv4/conf/%s/arp_notify", value: "1"},
	{path: "ipv6/conf/%s/ndisc_notify", value: "1"},
	{path: "ipv6/conf/%s/optimistic_dad", value: "1"},
}

// withIPv6 enables IPv6, which the container runtime may have disabled, and keeps
// addresses when the pod sets the interface down.
var withIPv6 = []sysctl{
	{path: "ipv6/conf/%s/disable_ipv6", value: "0", needed: true},
	{path: "ipv6/conf/%s/keep_addr_on_down", value: "1"},
}

// writeSysctls sets sysctls of an interface in the pod. /proc/sys/net is that of the
// calling thread's network namespace.
func writeSysctls(podNS *os.File, ifname string, settings []sysctl) error {
	return netns.Within(podNS, func() error {
		for _, s := range settings {
			path := "/proc/sys/net/" + fmt.Sprintf(s.path, ifname)
			f, err := file.Open(path, unix.O_WRONLY, 0)
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

// configure sets addresses and routes of an interface of the pod, which is up. IPv6
// addresses are set without duplicate address detection, which would delay their use
// by a second or two: that they are unique is the IPAM plugin's responsibility.
func configure(pod *link.Conn, index int, result *types100.Result) error {
	var gateway4, gateway6 netip.Addr // for routes without a gateway
	for _, ip := range result.IPs {
		address, err := Prefix(ip.Address)
		if err != nil {
			return err
		}
		gateway := &gateway4
		if address.Addr().Is6() {
			gateway = &gateway6
		}
		if err := pod.AddAddress(index, address, true); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		if !gateway.IsValid() {
			*gateway = Addr(ip.Gateway)
		}
	}
	for _, r := range result.Routes {
		dst, err := Prefix(r.Dst)
		if err != nil {
			return err
		}
		if err := checkRoute(r); err != nil {
			return err
		}
		route := link.Route{Dst: dst, Index: index, Gateway: Addr(r.GW), MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority}
		if r.Table != nil {
			route.Table = *r.Table
		}
		if r.Scope != nil {
			route.Scope = uint8(*r.Scope)
		}
		if !route.Gateway.IsValid() {
			if route.Gateway = gateway4; dst.Addr().Is6() {
				route.Gateway = gateway6
			}
		}
		if err := pod.AddRoute(route); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return nil
}

// checkRoute returns an error for a number that netlink would truncate.
func checkRoute(r *types.Route) error {
	table, scope := 0, 0
	if r.Table != nil {
		table = *r.Table
	}
	if r.Scope != nil {
		scope = *r.Scope
	}
	for _, n := range []struct {
		field    string
		is, most int
	}{{"mtu", r.MTU, math.MaxUint32}, {"advmss", r.AdvMSS, math.MaxUint32}, {"priority", r.Priority, math.MaxUint32}, {"table", table, math.MaxUint32}, {"scope", scope, math.MaxUint8}} {
		if n.is < 0 || n.is > n.most {
			return fmt.Errorf("IPAM plugin answered with a route to %s of %s %d: want 0 to %d", &r.Dst, n.field, n.is, n.most)
		}
	}
	return nil
}

// Addr converts an address of an IPAM plugin's result, in which IPv4 may have sixteen
// bytes. The result is not valid if ip is not.
func Addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// Prefix converts an address and its mask.
func Prefix(n net.IPNet) (netip.Prefix, error) {
	ones, bits := n.Mask.Size()
	a := Addr(n.IP)
	if !a.IsValid() || bits != a.BitLen() {
		return netip.Prefix{}, fmt.Errorf("IPAM plugin answered with an address that is none: %s", &n)
	}
	return netip.PrefixFrom(a, ones), nil
}
