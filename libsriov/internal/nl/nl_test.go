// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nl

import (
	"encoding/binary"
	"errors"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// acknowledgement is what the kernel sends: errno, the request's header (and
// its payload unless capped), then attributes.
func acknowledgement(errno syscall.Errno, flags uint16, echoed int, text string) syscall.NetlinkMessage {
	data := binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno)))
	echo := make([]byte, echoed)
	binary.NativeEndian.PutUint32(echo, uint32(echoed))
	data = append(data, echo...)
	if text != "" {
		data = append(data, nl.NewRtAttr(nl.NLMSGERR_ATTR_MSG, nl.ZeroTerminated(text)).Serialize()...)
	}
	return syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.NLMSG_ERROR, Flags: flags}, Data: data}
}

func TestAcknowledgements(t *testing.T) {
	t.Parallel()
	const tlvs, capped = unix.NLM_F_ACK_TLVS, unix.NLM_F_CAPPED
	for name, tc := range map[string]struct {
		m    syscall.NetlinkMessage
		want string // "" is success
	}{
		"success":               {m: acknowledgement(0, 0, 16, "")},
		"bare errno":            {m: acknowledgement(unix.EBUSY, 0, 16, ""), want: "device or resource busy"},
		"text, capped":          {m: acknowledgement(unix.EINVAL, tlvs|capped, 16, "VF too fast"), want: "invalid argument (kernel: VF too fast)"},
		"text, request echoed":  {m: acknowledgement(unix.EINVAL, tlvs, 40, "VF too fast"), want: "invalid argument (kernel: VF too fast)"},
		"text behind odd echo":  {m: acknowledgement(unix.EINVAL, tlvs, 41, ""), want: "invalid argument"},
		"done without payload":  {m: syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.NLMSG_DONE}}},
		"truncated":             {m: syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.NLMSG_ERROR, Flags: tlvs}, Data: []byte{0xff, 0xff, 0xff, 0xff, 9}}, want: "operation not permitted"},
		"garbage in attributes": {m: syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.NLMSG_ERROR, Flags: tlvs | capped}, Data: append(acknowledgement(unix.EPERM, 0, 16, "").Data, 1, 2, 3, 4, 5)}, want: "operation not permitted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := ackError(tc.m)
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, tc.want)
			var errno syscall.Errno
			require.True(t, errors.As(err, &errno))
		})
	}
}

// An answer that does not fit the buffer grows it instead of being cut.
func TestReceiveGrowsItsBuffer(t *testing.T) {
	t.Parallel()
	s, err := Open(unix.NETLINK_ROUTE, nil)
	require.NoError(t, err)
	defer s.Close()
	s.buf = make([]byte, 100) // less than one interface takes
	out, err := s.Execute(Request(unix.RTM_GETLINK, unix.NLM_F_DUMP, nl.NewIfInfomsg(unix.AF_UNSPEC)))
	require.NoError(t, err)
	require.NotEmpty(t, out)
	assert.Greater(t, len(s.buf), 100)
	assert.Equal(t, 1, s.Requests())
}

func TestUnknownFamily(t *testing.T) {
	t.Parallel()
	_, err := OpenFamily("no-such-family")
	require.ErrorIs(t, err, unix.ENOENT)
	assert.ErrorContains(t, err, "no-such-family")
}
