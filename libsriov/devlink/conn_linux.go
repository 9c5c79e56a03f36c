// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sriovkit/sriovkit/libsriov/internal/nl"
	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func (d Device) attrs() []*vnl.RtAttr {
	return []*vnl.RtAttr{
		vnl.NewRtAttr(vnl.DEVLINK_ATTR_BUS_NAME, vnl.ZeroTerminated(d.Bus)),
		vnl.NewRtAttr(vnl.DEVLINK_ATTR_DEV_NAME, vnl.ZeroTerminated(d.Name)),
	}
}

// Conn is a devlink socket. It is not for use by several goroutines at once.
type Conn struct {
	family *nl.Family
}

// Open opens a connection; ErrNotSupported if the kernel has no devlink.
func Open() (*Conn, error) {
	f, err := nl.OpenFamily(vnl.GENL_DEVLINK_NAME)
	if errors.Is(err, unix.ENOENT) {
		err = fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	if err != nil {
		return nil, err
	}
	return &Conn{f}, nil
}

// Close closes the connection.
func (c *Conn) Close() error { return c.family.Close() }

// execute runs a command about a device. The error wraps ErrNotSupported where the kernel, the
// device or its driver has no such operation.
func (c *Conn) execute(what string, command uint8, d Device, attrs ...*vnl.RtAttr) ([][]byte, error) {
	out, err := c.family.Execute(command, 0, append(d.attrs(), attrs...)...)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) && command == vnl.DEVLINK_CMD_PARAM_GET {
		err = fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", what, d, err)
	}
	return out, nil
}

// Mode reads the embedded switch's mode.
func (c *Conn) Mode(d Device) (Mode, error) {
	out, err := c.execute("eswitch mode", vnl.DEVLINK_CMD_ESWITCH_GET, d)
	if err != nil {
		return 0, err
	}
	mode, found := Mode(0), false
	for _, m := range out {
		err = c.family.Each(m, func(kind uint16, v []byte) {
			if kind == vnl.DEVLINK_ATTR_ESWITCH_MODE && len(v) == 2 {
				mode, found = Mode(binary.NativeEndian.Uint16(v)), true
			}
		})
	}
	if err == nil && !found {
		err = fmt.Errorf("eswitch mode of %s: %w", d, ErrNotSupported)
	}
	return mode, err
}

// SetMode switches the mode. Drivers take up to a minute, remove and create
// netdevs meanwhile, and some refuse while there are VFs.
func (c *Conn) SetMode(d Device, m Mode) error {
	_, err := c.execute("set eswitch mode "+m.String(), vnl.DEVLINK_CMD_ESWITCH_SET, d,
		vnl.NewRtAttr(vnl.DEVLINK_ATTR_ESWITCH_MODE, vnl.Uint16Attr(uint16(m))))
	return err
}
