// SPDX-License-Identifier: Apache-2.0

package value

import (
	"net"
	"slices"
)

// NoMAC reports whether an address is empty or all zero, by which a PF lets a VF choose.
func NoMAC(mac net.HardwareAddr) bool {
	return !slices.ContainsFunc(mac, func(b byte) bool { return b != 0 })
}
