// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Conn is an RDMA netlink socket.
type Conn struct {
	handle *netlink.Handle
}

// Open opens a connection in the namespace that ns is open on; in the caller's
// own if ns is nil.
func Open(ns *os.File) (*Conn, error) {
	at := netns.None()
	if ns != nil {
		at = netns.NsHandle(ns.Fd())
	}
	h, err := netlink.NewHandleAt(at, unix.NETLINK_RDMA)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		err = fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open RDMA netlink: %w", err)
	}
	return &Conn{h}, nil
}

// Close closes the connection.
func (c *Conn) Close() { c.handle.Close() }

// Mode reads the namespace mode.
func (c *Conn) Mode() (Mode, error) {
	m, err := c.handle.RdmaSystemGetNetnsMode()
	if errors.Is(err, unix.ECONNREFUSED) { // no kernel listener: the module is not loaded
		err = fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	if err != nil {
		return "", fmt.Errorf("RDMA namespace mode: %w", err)
	}
	return Mode(m), nil
}

// SetMode changes the namespace mode. The kernel refuses (EBUSY) while any
// namespace but the initial one exists.
func (c *Conn) SetMode(m Mode) error {
	if err := c.handle.RdmaSystemSetNetnsMode(string(m)); err != nil {
		return fmt.Errorf("set RDMA namespace mode %s: %w", m, err)
	}
	return nil
}
