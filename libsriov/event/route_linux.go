// SPDX-License-Identifier: Apache-2.0

package event

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// DefaultRoutes is a subscription to default routes, IPv4 and IPv6 in every table, that
// come, go or change in one namespace. The kernel sends no event for a default route that it
// derives for itself, nor for an IPv4 route that it removes with its interface or with the
// interface's last address. For the former see the events of [Links]; for the latter the loss of
// an IPv4 address is an event here, too.
type DefaultRoutes struct {
	*subscription
}

// OpenDefaultRoutes subscribes in the namespace that ns is open on; in the caller's own if
// ns is nil. The kernel drops all other routes before they are queued, so that a router
// which changes thousands a second wakes nobody.
func OpenDefaultRoutes(ns *os.File) (*DefaultRoutes, error) {
	s, err := subscribe(unix.NETLINK_ROUTE, unix.RTMGRP_IPV4_ROUTE|unix.RTMGRP_IPV6_ROUTE|unix.RTMGRP_IPV4_IFADDR, ns)
	if err == nil {
		if err = s.filter(defaultRoutes); err != nil {
			err = errors.Join(err, s.Close())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("subscribe to default routes: %w", err)
	}
	return &DefaultRoutes{s}, nil
}

// Offsets in a notification, which is a datagram of one message: nlmsghdr, then rtmsg or
// ifaddrmsg (linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h).
const (
	typeOffset   = 4                       // nlmsg_type, 16 bits
	dstLenOffset = unix.SizeofNlMsghdr + 1 // rtm_dst_len, 8 bits
	indexOffset  = unix.SizeofNlMsghdr + 4 // ifa_index, 32 bits
)

// defaultRoutes accepts routes whose rtm_dst_len is 0, and addresses that go.
var defaultRoutes = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: typeOffset},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: networkOrder(unix.RTM_DELADDR), Jt: 4},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: networkOrder(unix.RTM_NEWADDR), Jt: 2},
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: dstLenOffset},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0, Jt: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 20}, // all of it
}

// networkOrder is a netlink type, which is in the machine's order, as BPF loads it.
func networkOrder(nlmsgType uint16) uint32 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], nlmsgType)
	return uint32(binary.BigEndian.Uint16(b[:]))
}

// Next waits until a default route changed, or an event had to be dropped: index is 0. Or
// until the interface of that index lost an IPv4 address. When it was the last one, the
// kernel removes the IPv4 routes through that interface after this event, under the same
// lock that a dump of interfaces takes ([link.Conn.All]): read those first, then the routes.
// The error is ctx's cause once ctx has ended.
func (d *DefaultRoutes) Next(ctx context.Context) (index int, err error) {
	b, missed, err := d.next(ctx)
	if err != nil || missed || len(b) < indexOffset+4 || binary.NativeEndian.Uint16(b[typeOffset:]) != unix.RTM_DELADDR {
		return 0, err
	}
	return int(binary.NativeEndian.Uint32(b[indexOffset:])), nil
}

// filter makes the kernel drop what a program does not accept. The program is in force
// for what arrives from now on.
func (s *subscription) filter(program []unix.SockFilter) error {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
	return errors.Join(err, os.NewSyscallError("setsockopt", set))
}
