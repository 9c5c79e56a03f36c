// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"encoding/binary"
	"fmt"

	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes that the library has no names for (linux/devlink.h).
const attrPortPCIVFNumber = 128

// Ports lists the ports of every device that this kernel knows.
func (c *Conn) Ports() ([]Port, error) {
	out, err := c.family.Execute(vnl.DEVLINK_CMD_PORT_GET, unix.NLM_F_DUMP)
	if err != nil {
		return nil, fmt.Errorf("list devlink ports: %w", err)
	}
	ports := make([]Port, len(out))
	for i, m := range out {
		if err := c.family.Each(m, ports[i].take); err != nil {
			return nil, fmt.Errorf("list devlink ports: %w", err)
		}
	}
	return ports, nil
}

func (p *Port) take(kind uint16, v []byte) {
	var n uint32
	switch len(v) {
	case 2:
		n = uint32(binary.NativeEndian.Uint16(v))
	case 4:
		n = binary.NativeEndian.Uint32(v)
	}
	switch kind {
	case vnl.DEVLINK_ATTR_BUS_NAME:
		p.Device.Bus = unix.ByteSliceToString(v)
	case vnl.DEVLINK_ATTR_DEV_NAME:
		p.Device.Name = unix.ByteSliceToString(v)
	case vnl.DEVLINK_ATTR_PORT_INDEX:
		p.Index = n
	case vnl.DEVLINK_ATTR_PORT_FLAVOUR:
		p.Flavour = Flavour(n)
	case vnl.DEVLINK_ATTR_PORT_PCI_PF_NUMBER:
		p.PF = uint16(n)
	case attrPortPCIVFNumber:
		p.VF = uint16(n)
	case vnl.DEVLINK_ATTR_PORT_PCI_SF_NUMBER:
		p.SF = n
	case vnl.DEVLINK_ATTR_PORT_NETDEV_NAME:
		p.Netdev = unix.ByteSliceToString(v)
	case vnl.DEVLINK_ATTR_PORT_NETDEV_IFINDEX:
		p.IfIndex = int(n)
	case vnl.DEVLINK_ATTR_PORT_IBDEV_NAME:
		p.RDMA = unix.ByteSliceToString(v)
	}
}
