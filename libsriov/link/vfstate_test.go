// SPDX-License-Identifier: Apache-2.0

//go:build linux

package link

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/libsriov/vfstate"
)

// answer is what a kernel sends for a PF with n VFs, GUIDs included.
func answer(n int) []byte {
	list := vnl.NewRtAttr(unix.IFLA_VFINFO_LIST, nil)
	for i := range n {
		vf := list.AddRtAttr(vnl.IFLA_VF_INFO, nil)
		index := uint32(i)
		mac := make([]byte, 36)
		binary.NativeEndian.PutUint32(mac, index)
		copy(mac[4:], []byte{2, 0, 0, 0, byte(i >> 8), byte(i)})
		vf.AddRtAttr(vnl.IFLA_VF_MAC, mac)
		vf.AddRtAttr(vnl.IFLA_VF_VLAN, words(index, uint32(i), 3))
		tag := binary.BigEndian.AppendUint16(words(index, uint32(i), 3), 0x88a8)
		vf.AddRtAttr(vnl.IFLA_VF_VLAN_LIST, nil).AddRtAttr(vnl.IFLA_VF_VLAN_INFO, append(tag, 0, 0))
		vf.AddRtAttr(vnl.IFLA_VF_TX_RATE, words(index, 200))
		vf.AddRtAttr(vnl.IFLA_VF_RATE, words(index, 100, 200))
		vf.AddRtAttr(vnl.IFLA_VF_SPOOFCHK, words(index, 1))
		vf.AddRtAttr(vnl.IFLA_VF_LINK_STATE, words(index, 2))
		vf.AddRtAttr(vnl.IFLA_VF_RSS_QUERY_EN, words(index, ^uint32(0)))
		vf.AddRtAttr(vnl.IFLA_VF_TRUST, words(index, 0))
		guid := binary.NativeEndian.AppendUint64(words(index, 0), 0x0011223344556677)
		vf.AddRtAttr(vnl.IFLA_VF_IB_NODE_GUID, guid)
		vf.AddRtAttr(vnl.IFLA_VF_IB_PORT_GUID, guid)
	}
	head := vnl.NewIfInfomsg(unix.AF_UNSPEC)
	head.Index = 7
	return append(head.Serialize(), list.Serialize()...)
}

func TestParse256VFs(t *testing.T) {
	t.Parallel()
	m := answer(256)
	require.Greater(t, len(m), 32<<10)
	states, _, err := parseVFStates(m)
	require.NoError(t, err)
	require.Len(t, states, 256)
	g := vfstate.GUID(0x0011223344556677)
	assert.Equal(t, vfstate.State{
		MAC:        net.HardwareAddr{2, 0, 0, 0, 0, 255},
		VLAN:       &vfstate.VLAN{ID: 255, QoS: 3, Proto: vfstate.Proto8021AD},
		Rate:       &vfstate.Rate{Min: 100, Max: 200},
		SpoofCheck: vfstate.On, Trust: vfstate.Off, LinkState: vfstate.LinkDisable,
		NodeGUID: &g, PortGUID: &g,
	}, states[255])
	assert.Equal(t, "00:11:22:33:44:55:66:77", g.String())
}

// FuzzParse: what the kernel sends is either understood or an error, whatever
// it is.
func FuzzParse(f *testing.F) {
	f.Add(answer(2))
	f.Add(answer(0))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, m []byte) {
		if _, err := Parse(m); err != nil {
			return
		}
		states, _, err := parseVFStates(m)
		if err == nil {
			for vf := range states {
				require.GreaterOrEqual(t, vf, 0)
			}
		}
	})
}

// words lays 32-bit members out as a C struct.
func words(members ...uint32) []byte {
	var b []byte
	for _, m := range members {
		b = binary.NativeEndian.AppendUint32(b, m)
	}
	return b
}
