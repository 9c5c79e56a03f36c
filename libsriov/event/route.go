// SPDX-License-Identifier: Apache-2.0

package event

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// DefaultRoutes is a subscription to default routes, IPv4 and IPv6 in every table, that
// come, go or change in one namespace. Two kinds are not told: those that the kernel
// derives for itself, and IPv4 routes that vanish with their interface, which is an event
// of [Links].
type DefaultRoutes struct {
	*subscription
}

// OpenDefaultRoutes subscribes in the namespace that ns is open on; in the caller's own if
// ns is nil. The kernel drops all other routes before they are queued, so that a router
// which changes thousands a second wakes nobody.
func OpenDefaultRoutes(ns *os.File) (*DefaultRoutes, error) {
	s, err := subscribe(unix.NETLINK_ROUTE, unix.RTMGRP_IPV4_ROUTE|unix.RTMGRP_IPV6_ROUTE, ns)
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

// defaultRoutes accepts messages whose rtm_dst_len is 0: the second byte behind the
// header. A notification of a route is a datagram of its own.
var defaultRoutes = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: unix.SizeofNlMsghdr + 1},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 20}, // all of it
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
}

// Next waits until a default route changed, or an event had to be dropped. The error is
// ctx's cause once ctx has ended.
func (d *DefaultRoutes) Next(ctx context.Context) error {
	_, _, err := d.next(ctx)
	return err
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
