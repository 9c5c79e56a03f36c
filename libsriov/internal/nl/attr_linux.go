// SPDX-License-Identifier: Apache-2.0

package nl

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// ErrTruncated: a netlink message ends within an attribute.
var ErrTruncated = errors.New("netlink attribute is cut off")

// typeMask cuts the flags off an attribute's type (NLA_TYPE_MASK in
// linux/netlink.h).
const typeMask = 0x3fff

// Nested calls visit for every attribute in b, in order. It stands in for the
// library's ParseRouteAttr, which panics if the last attribute lacks its
// padding.
func Nested(b []byte, visit func(kind uint16, value []byte)) error {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return ErrTruncated
		}
		visit(binary.NativeEndian.Uint16(b[2:])&typeMask, b[unix.SizeofRtAttr:size:size])
		b = b[min(len(b), (size+3)&^3):]
	}
	return nil
}
