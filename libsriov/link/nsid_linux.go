// SPDX-License-Identifier: Apache-2.0

package link

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/sriovkit/sriovkit/libsriov/internal/nl"
	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes of RTM_GETNSID (linux/net_namespace.h).
const (
	netnsaNSID = 1
	netnsaFD   = 3
)

// NSID is the number by which this namespace knows the one that ns is open on, as
// [Link.NetNSID] has it; ok is false if it has none.
func (c *Conn) NSID(ns *os.File) (id int32, ok bool, err error) {
	out, err := c.socket.Execute(nl.Request(unix.RTM_GETNSID, 0, vnl.NewRtGenMsg(),
		vnl.NewRtAttr(netnsaFD, vnl.Uint32Attr(uint32(ns.Fd())))))
	if err == nil && (len(out) != 1 || len(out[0]) < vnl.NewRtGenMsg().Len()) {
		err = fmt.Errorf("kernel sent %d answers", len(out))
	}
	id = -1 // NETNSA_NSID_NOT_ASSIGNED
	if err == nil {
		err = nl.Nested(out[0][vnl.NewRtGenMsg().Len():], func(kind uint16, value []byte) {
			if kind == netnsaNSID && len(value) == 4 {
				id = int32(binary.NativeEndian.Uint32(value))
			}
		})
	}
	if err != nil {
		return 0, false, fmt.Errorf("number of namespace %s: %w", ns.Name(), err)
	}
	return id, id >= 0, nil
}
