// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/sriovkit/sriovkit/libsriov/event"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/netns"
	"golang.org/x/sys/unix"
)

// carrierTimeout bounds the wait for the link before addresses are announced.
// The kernel announces them again when the link comes later (arp_notify).
const carrierTimeout = 200 * time.Millisecond

// Announce announces the addresses of an interface, so that neighbours do not keep
// sending to the MAC that had them before: by an ARP announcement (RFC 5227) for each
// IPv4 address and an unsolicited neighbour advertisement (RFC 4861, 7.2.6) for each
// IPv6 address. The frames are sent on this interface whatever the routes are.
func Announce(ctx context.Context, p Pod, l link.Link, result *types100.Result) error {
	if err := waitForCarrier(ctx, p, l.Index); err != nil {
		return err
	}
	fd := -1
	err := netns.Within(p.NS, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var errs []error
	for _, ip := range result.IPs {
		frame := neighbourAdvertisement(l.MAC, ip.Address.IP)
		if v4 := ip.Address.IP.To4(); v4 != nil {
			frame = arpAnnouncement(l.MAC, v4)
		}
		errs = append(errs, os.NewSyscallError("sendto", unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: l.Index})))
	}
	return errors.Join(errs...)
}

// waitForCarrier waits until the interface has a carrier, or for carrierTimeout. A
// timeout is no error.
func waitForCarrier(ctx context.Context, p Pod, index int) error {
	events, err := event.OpenLinks(p.NS)
	if err != nil {
		return err
	}
	defer events.Close()
	l, err := p.ByIndex(index)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, carrierTimeout)
	defer cancel()
	for !l.Carrier() {
		e, err := events.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case e.Action == event.Missed:
			if l, err = p.ByIndex(index); err != nil {
				return err
			}
		case e.Link.Index == index && e.Action == event.Change:
			l = e.Link
		}
	}
	return nil
}

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// ethernet returns an Ethernet header, with room for the rest of the frame.
func ethernet(to, from net.HardwareAddr, proto uint16) []byte {
	b := append(append(make([]byte, 0, 128), to...), from...)
	return binary.BigEndian.AppendUint16(b, proto)
}

// arpAnnouncement returns an ARP request for the sender's own address (RFC 5227,
// section 3; layout in RFC 826).
func arpAnnouncement(mac net.HardwareAddr, ip net.IP) []byte {
	b := ethernet(broadcast, mac, unix.ETH_P_ARP)
	b = append(b, 0, 1, 0x08, 0x00, 6, 4, 0, 1) // Ethernet, IPv4, address lengths, request
	b = append(append(b, mac...), ip.To4()...)
	return append(append(b, broadcast...), ip.To4()...)
}

// neighbourAdvertisement returns an unsolicited neighbour advertisement for ip, to all
// nodes, with the override flag and the target's link-layer address (RFC 4861,
// section 4.4).
func neighbourAdvertisement(mac net.HardwareAddr, ip net.IP) []byte {
	ip = ip.To16()
	allNodes := net.ParseIP("ff02::1")
	icmp := append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, ip...) // type, code, checksum; override
	icmp = append(append(icmp, 2, 1), mac...)                  // option: target link-layer address, in units of 8 bytes
	pseudo := append(append([]byte(nil), ip...), allNodes...)  // RFC 8200 section 8.1
	pseudo = append(pseudo, 0, 0, 0, byte(len(icmp)), 0, 0, 0, unix.IPPROTO_ICMPV6)
	binary.BigEndian.PutUint16(icmp[2:], checksum(append(pseudo, icmp...)))

	b := ethernet(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, mac, unix.ETH_P_IPV6)
	b = append(b, 0x60, 0, 0, 0, 0, byte(len(icmp)), unix.IPPROTO_ICMPV6, 255) // hop limit, which receivers check (RFC 4861, 7.1.2)
	return append(append(append(b, ip...), allNodes...), icmp...)
}

// checksum returns the Internet checksum (RFC 1071) of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
