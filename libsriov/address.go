// SPDX-License-Identifier: Apache-2.0

package libsriov

import "github.com/sriovkit/sriovkit/libsriov/value"

// Address is a PCI address. It is a value of package value, which programs that
// touch no kernel may import alone; so is Range.
type Address = value.Address

// Range is a range of VF indexes.
type Range = value.Range

// Errors of the parsers.
var (
	ErrBadAddress = value.ErrBadAddress
	ErrBadRange   = value.ErrBadRange
)

// ParseAddress reads a PCI address: see [value.ParseAddress].
func ParseAddress(s string) (Address, error) { return value.ParseAddress(s) }

// ParseRange reads "N" or "N-M": see [value.ParseRange].
func ParseRange(s string) (Range, error) { return value.ParseRange(s) }
