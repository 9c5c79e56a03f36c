// SPDX-License-Identifier: Apache-2.0

package value

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrBadGUID: a text is not a GUID.
var ErrBadGUID = errors.New("not a GUID (want eight bytes, e.g. 02:00:00:00:00:00:00:01)")

// GUID is an InfiniBand EUI-64, its first byte in the highest bits.
type GUID uint64

// ParseGUID reads eight bytes as colons part them, or as sixteen digits without.
// Anything else is ErrBadGUID.
func ParseGUID(s string) (GUID, error) {
	digits := s
	if len(s) == len("01:02:03:04:05:06:07:08") {
		for i := 2; i < len(s); i += 3 {
			if s[i] != ':' {
				return 0, fmt.Errorf("%.40q: %w", s, ErrBadGUID)
			}
		}
		digits = strings.ReplaceAll(s, ":", "")
	}
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != 8 {
		return 0, fmt.Errorf("%.40q: %w", s, ErrBadGUID)
	}
	var g GUID
	for _, x := range b {
		g = g<<8 | GUID(x)
	}
	return g, nil
}

// String is eight bytes with colons.
func (g GUID) String() string {
	var b strings.Builder
	for shift := 56; shift >= 0; shift -= 8 {
		if shift != 56 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02x", uint8(g>>shift))
	}
	return b.String()
}
