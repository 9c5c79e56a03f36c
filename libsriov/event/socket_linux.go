// SPDX-License-Identifier: Apache-2.0

package event

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/sriovkit/sriovkit/libsriov/netns"
	"golang.org/x/sys/unix"
)

// receiveBuffer holds what the kernel says while the reader is busy: creating
// 256 VFs with their netdevs is about 2 000 messages of some 400 bytes.
const receiveBuffer = 2 << 20

// subscription is a socket that only listens.
type subscription struct {
	file *os.File
	buf  []byte
}

// subscribe joins a multicast group in the namespace that ns is open on; in the
// caller's own if ns is nil.
func subscribe(protocol int, groups uint32, ns *os.File) (*subscription, error) {
	var fd int
	err := netns.Within(ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return nil, err
	}
	// Beyond net.core.rmem_max only with CAP_NET_ADMIN; up to it without.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return &subscription{file: os.NewFile(uintptr(fd), "netlink"), buf: make([]byte, 64<<10)}, nil
}

// Close ends the subscription.
func (s *subscription) Close() error { return s.file.Close() }

// next waits for one datagram of the kernel's; missed is true if some were
// dropped before it. The slice is good until the next call.
func (s *subscription) next(ctx context.Context) (datagram []byte, missed bool, err error) {
	if err := s.file.SetReadDeadline(time.Time{}); err != nil {
		return nil, false, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := s.file.SyscallConn()
	if err != nil {
		return nil, false, err
	}
	var n int
	var from unix.Sockaddr
	for {
		if err := ctx.Err(); err != nil {
			return nil, false, context.Cause(ctx)
		}
		var recv error
		err = raw.Read(func(fd uintptr) bool {
			n, from, recv = unix.Recvfrom(int(fd), s.buf, 0)
			return !errors.Is(recv, unix.EAGAIN)
		})
		switch {
		case ctx.Err() != nil:
			return nil, false, context.Cause(ctx)
		case err != nil:
			return nil, false, err
		case errors.Is(recv, unix.ENOBUFS):
			return nil, true, nil
		case errors.Is(recv, unix.EINTR):
			continue
		case recv != nil:
			return nil, false, os.NewSyscallError("recv", recv)
		}
		// Other processes may write to the group, too; only the kernel is port 0.
		if sender, ok := from.(*unix.SockaddrNetlink); ok && sender.Pid == 0 {
			return s.buf[:n], false, nil
		}
	}
}
