// SPDX-License-Identifier: Apache-2.0

package nl

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/sriovkit/sriovkit/libsriov/netns"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Socket is a netlink socket in one network namespace. It is not for use by
// several goroutines at once.
type Socket struct {
	fd       int
	seq      uint32
	requests int
	buf      []byte
}

// Open opens a socket of a protocol (unix.NETLINK_ROUTE, …) in the namespace
// that ns is open on, or in the calling thread's own if ns is nil.
func Open(protocol int, ns *os.File) (*Socket, error) {
	var fd int
	err := netns.Within(ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return nil, err
	}
	s := &Socket{fd: fd, buf: make([]byte, 32<<10)}
	// Older kernels lack either option; the worst that follows is a shorter
	// message or a longer echo.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return s, nil
}

// Close closes the socket.
func (s *Socket) Close() error { return unix.Close(s.fd) }

// Requests is how many requests were sent so far.
func (s *Socket) Requests() int { return s.requests }

// Request composes a message of a type; flags are added to NLM_F_REQUEST.
func Request(kind, flags int, parts ...nl.NetlinkRequestData) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags)
	for _, p := range parts {
		req.AddData(p)
	}
	return req
}

// dumpTries bounds how often an interrupted dump is repeated. Each try needs a
// change of the table in just that moment, so more than a few in a row mean a
// storm that a caller should hear of.
const dumpTries = 10

// Execute sends a request and returns the payloads of the answer. An error
// carries the kernel's errno and, where it gave one, its text.
func (s *Socket) Execute(req *nl.NetlinkRequest) ([][]byte, error) {
	var out [][]byte
	err := s.Each(req, func() { out = nil }, func(payload []byte) error {
		out = append(out, bytes.Clone(payload))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Each is Execute for answers that need not be kept: visit gets each payload as it
// arrives, in memory that the next one reuses. begin is called before each try, of which
// an interrupted dump needs several. After an error of visit the rest of the answer is
// read and dropped.
func (s *Socket) Each(req *nl.NetlinkRequest, begin func(), visit func(payload []byte) error) error {
	for try := 1; ; try++ {
		begin()
		interrupted, err := s.once(req, visit)
		if err != nil || !interrupted {
			return err
		}
		if try == dumpTries {
			return fmt.Errorf("dump interrupted %d times in a row: %w", try, unix.EINTR)
		}
	}
}

func (s *Socket) once(req *nl.NetlinkRequest, visit func([]byte) error) (interrupted bool, err error) {
	s.seq++
	s.requests++
	req.Seq = s.seq
	dump := req.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP
	if !dump {
		req.Flags |= unix.NLM_F_ACK
	}
	if err := unix.Sendto(s.fd, req.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return false, os.NewSyscallError("send", err)
	}
	var refused error // by visit
	for {
		messages, err := s.receive()
		if err != nil {
			return false, err
		}
		for _, m := range messages {
			if m.Header.Seq != s.seq {
				continue // left over from a request that was given up
			}
			interrupted = interrupted || m.Header.Flags&unix.NLM_F_DUMP_INTR != 0
			switch m.Header.Type {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				return interrupted, cmp.Or(ackError(m), refused)
			default:
				if refused == nil {
					refused = visit(m.Data)
				}
			}
		}
	}
}

// receive reads one datagram of the kernel's, whatever its length. The messages are good
// until the next call.
func (s *Socket) receive() ([]syscall.NetlinkMessage, error) {
	for {
		n, from, err := unix.Recvfrom(s.fd, s.buf, unix.MSG_PEEK|unix.MSG_TRUNC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("recv", err)
		}
		if n > len(s.buf) {
			s.buf = make([]byte, n)
		}
		n, _, err = unix.Recvfrom(s.fd, s.buf, 0)
		if err != nil {
			return nil, os.NewSyscallError("recv", err)
		}
		// Port 0 is the kernel; another process may forge what it likes.
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
			continue
		}
		return syscall.ParseNetlinkMessage(s.buf[:n]) // points into buf
	}
}

// Error is a refusal by the kernel.
type Error struct {
	Errno syscall.Errno
	Text  string // the extended acknowledgement; "" if there was none
}

func (e *Error) Error() string {
	if e.Text == "" {
		return e.Errno.Error()
	}
	return e.Errno.Error() + " (kernel: " + e.Text + ")"
}

func (e *Error) Unwrap() error { return e.Errno }

// ackError reads the errno of an acknowledgement (0 is nil) and the text behind
// it.
func ackError(m syscall.NetlinkMessage) error {
	if len(m.Data) < 4 {
		return nil // NLMSG_DONE without a payload
	}
	errno := int32(binary.NativeEndian.Uint32(m.Data))
	if errno == 0 {
		return nil
	}
	e := &Error{Errno: syscall.Errno(-errno)}
	attrs := m.Data[4:]
	if m.Header.Flags&unix.NLM_F_ACK_TLVS == 0 {
		return e
	}
	if m.Header.Type == unix.NLMSG_ERROR { // the request's header comes first, its payload too unless capped
		skip := unix.SizeofNlMsghdr
		if m.Header.Flags&unix.NLM_F_CAPPED == 0 && len(attrs) >= 4 {
			skip = int(binary.NativeEndian.Uint32(attrs))
		}
		skip = (skip + 3) &^ 3
		if skip > len(attrs) {
			return e
		}
		attrs = attrs[skip:]
	}
	_ = Nested(attrs, func(kind uint16, value []byte) { // a cut text is still the errno
		if kind == nl.NLMSGERR_ATTR_MSG {
			e.Text = unix.ByteSliceToString(value)
		}
	})
	return e
}
