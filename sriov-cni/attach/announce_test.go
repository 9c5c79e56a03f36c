// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"net"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The bytes are those that the RFCs' figures give; the checksum over pseudo
// header and message, itself included, is zero.
func TestAnnouncements(t *testing.T) {
	t.Parallel()
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	assert.Equal(t, []byte{
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x08, 0x06,
		0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 192, 0, 2, 7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 192, 0, 2, 7,
	}, arpAnnouncement(mac, net.ParseIP("192.0.2.7").To4()))

	b := neighbourAdvertisement(mac, net.ParseIP("2001:db8::7"))
	require.Len(t, b, 14+40+32)
	assert.Equal(t, []byte{0x33, 0x33, 0, 0, 0, 1}, b[:6])
	assert.EqualValues(t, 255, b[14+7], "hop limit")
	assert.Equal(t, net.ParseIP("ff02::1"), net.IP(b[14+24:14+40]))
	assert.Equal(t, []byte{136, 0}, b[54:56])
	assert.Equal(t, []byte{2, 1, 2, 0, 0, 0, 0, 9}, b[len(b)-8:])
	pseudo := slices.Concat(b[22:54], []byte{0, 0, 0, 32, 0, 0, 0, 58}, b[54:])
	assert.Zero(t, checksum(pseudo))
}
