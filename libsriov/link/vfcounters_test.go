// SPDX-License-Identifier: Apache-2.0

//go:build linux

package link

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func TestParseVFCounters(t *testing.T) {
	t.Parallel()
	list := vnl.NewRtAttr(unix.IFLA_VFINFO_LIST|unix.NLA_F_NESTED, nil)
	for vf := range uint32(2) {
		info := list.AddRtAttr(vnl.IFLA_VF_INFO|unix.NLA_F_NESTED, nil)
		info.AddRtAttr(vnl.IFLA_VF_MAC, append(words(vf), make([]byte, 32)...))
		if vf == 0 { // a driver that does not tell
			continue
		}
		stats := info.AddRtAttr(vnl.IFLA_VF_STATS|unix.NLA_F_NESTED, nil)
		for kind := range 9 {
			if kind != 6 { // padding
				stats.AddRtAttr(kind, binary.NativeEndian.AppendUint64(nil, uint64(100+kind)))
			}
		}
		stats.AddRtAttr(2, []byte{1, 2}) // of no length that a counter has
	}
	message := append(vnl.NewIfInfomsg(unix.AF_UNSPEC).Serialize(), list.Serialize()...)
	got, err := parseVFCounters(message)
	require.NoError(t, err)
	require.Equal(t, map[int]VFCounters{0: {}, 1: {
		RxPackets: 100, TxPackets: 101, RxBytes: 102, TxBytes: 103,
		RxBroadcast: 104, RxMulticast: 105, RxDropped: 107, TxDropped: 108,
	}}, got)
	_, err = parseVFCounters(message[:4])
	require.Error(t, err)
}
