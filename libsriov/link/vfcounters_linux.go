// SPDX-License-Identifier: Apache-2.0

package link

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sriovkit/sriovkit/libsriov/internal/nl"
	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes in IFLA_VF_STATS (linux/if_link.h).
const (
	vfStatsRxPackets = 0
	vfStatsTxPackets = 1
	vfStatsRxBytes   = 2
	vfStatsTxBytes   = 3
	vfStatsBroadcast = 4
	vfStatsMulticast = 5
	vfStatsRxDropped = 7
	vfStatsTxDropped = 8
)

// VFCounters reads the counters of each VF of a PF, by VF index. It may cost
// the driver 1 to 2 ms a VF.
func (c *Conn) VFCounters(pfIndex int) (map[int]VFCounters, error) {
	info := vnl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index = int32(pfIndex)
	out, err := c.socket.Execute(nl.Request(unix.RTM_GETLINK, 0, info, extMask(filterVF)))
	if errors.Is(err, unix.ENODEV) {
		err = ErrNotFound
	}
	if err == nil && len(out) != 1 {
		err = fmt.Errorf("kernel sent %d answers", len(out))
	}
	var counters map[int]VFCounters
	if err == nil {
		counters, err = parseVFCounters(out[0])
	}
	if err != nil {
		return nil, fmt.Errorf("VF counters of interface %d: %w", pfIndex, err)
	}
	return counters, nil
}

// parseVFCounters finds the counters in a RTM_NEWLINK message.
func parseVFCounters(m []byte) (map[int]VFCounters, error) {
	if len(m) < unix.SizeofIfInfomsg {
		return nil, errTooShort
	}
	all := map[int]VFCounters{}
	var errs []error
	one := func(kind uint16, info []byte) {
		if kind != vnl.IFLA_VF_INFO {
			return
		}
		vf, counters := -1, VFCounters{}
		errs = append(errs, nl.Nested(info, func(kind uint16, v []byte) {
			switch {
			case kind == vnl.IFLA_VF_MAC && len(v) >= 4:
				vf = int(binary.NativeEndian.Uint32(v))
			case kind == vnl.IFLA_VF_STATS:
				errs = append(errs, nl.Nested(v, counters.take))
			}
		}))
		if vf >= 0 {
			all[vf] = counters
		}
	}
	errs = append(errs, nl.Nested(m[unix.SizeofIfInfomsg:], func(kind uint16, list []byte) {
		if kind == unix.IFLA_VFINFO_LIST {
			errs = append(errs, nl.Nested(list, one))
		}
	}))
	return all, errors.Join(errs...)
}

// take reads one counter.
func (c *VFCounters) take(kind uint16, v []byte) {
	if len(v) != 8 {
		return
	}
	n := binary.NativeEndian.Uint64(v)
	switch kind {
	case vfStatsRxPackets:
		c.RxPackets = n
	case vfStatsTxPackets:
		c.TxPackets = n
	case vfStatsRxBytes:
		c.RxBytes = n
	case vfStatsTxBytes:
		c.TxBytes = n
	case vfStatsBroadcast:
		c.RxBroadcast = n
	case vfStatsMulticast:
		c.RxMulticast = n
	case vfStatsRxDropped:
		c.RxDropped = n
	case vfStatsTxDropped:
		c.TxDropped = n
	}
}
