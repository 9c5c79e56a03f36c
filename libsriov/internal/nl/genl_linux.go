// SPDX-License-Identifier: Apache-2.0

package nl

import (
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Family is a generic netlink family on a socket of its own.
type Family struct {
	socket  *Socket
	id      int
	version uint8
}

// OpenFamily opens a socket for a generic netlink family. The error wraps
// unix.ENOENT if no loaded module offers it.
func OpenFamily(name string) (*Family, error) {
	s, err := Open(unix.NETLINK_GENERIC, nil)
	if err != nil {
		return nil, err
	}
	out, err := s.Execute(Request(nl.GENL_ID_CTRL, 0,
		&nl.Genlmsg{Command: nl.GENL_CTRL_CMD_GETFAMILY, Version: nl.GENL_CTRL_VERSION},
		nl.NewRtAttr(nl.GENL_CTRL_ATTR_FAMILY_NAME, nl.ZeroTerminated(name))))
	if err == nil && len(out) != 1 {
		err = fmt.Errorf("kernel sent %d answers", len(out))
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("generic netlink family %s: %w", name, err)
	}
	f := &Family{socket: s, version: 1}
	err = f.Each(out[0], func(kind uint16, value []byte) {
		if kind == nl.GENL_CTRL_ATTR_FAMILY_ID && len(value) == 2 {
			f.id = int(nl.NativeEndian().Uint16(value))
		}
	})
	if err == nil && f.id == 0 {
		err = fmt.Errorf("generic netlink family %s has no id", name)
	}
	if err != nil {
		s.Close()
	}
	return f, err
}

// Close closes the family's socket.
func (f *Family) Close() error { return f.socket.Close() }

// Execute sends a command with attributes and returns the payloads of the
// answer, generic header included.
func (f *Family) Execute(command uint8, flags int, attrs ...*nl.RtAttr) ([][]byte, error) {
	req := Request(f.id, flags, &nl.Genlmsg{Command: command, Version: f.version})
	for _, a := range attrs {
		req.AddData(a)
	}
	return f.socket.Execute(req)
}

// Each calls visit for every attribute of an answer.
func (f *Family) Each(m []byte, visit func(kind uint16, value []byte)) error {
	if len(m) < nl.SizeofGenlmsg {
		return fmt.Errorf("generic netlink message of %d bytes is too short", len(m))
	}
	return Nested(m[nl.SizeofGenlmsg:], visit)
}
