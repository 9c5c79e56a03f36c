// SPDX-License-Identifier: Apache-2.0

package value

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrBadRange: a text is not a range of numbers.
var ErrBadRange = errors.New(`not a range (want N, or N-M with N not above M, e.g. "3" or "0-3")`)

// Range is numbers of functions of one parent, First to Last, both included:
// indexes of VFs (0 to 65535 fit an SR-IOV capability) or the numbers that
// sub-functions were created with.
type Range struct {
	First, Last uint32
}

// ParseRange reads "N" or "N-M"; anything else, blanks included, is
// ErrBadRange.
func ParseRange(s string) (Range, error) {
	first, last, both := strings.Cut(s, "-")
	if !both {
		last = first
	}
	a, err1 := strconv.ParseUint(first, 10, 32)
	b, err2 := strconv.ParseUint(last, 10, 32)
	if err1 != nil || err2 != nil || a > b {
		return Range{}, fmt.Errorf("%.40q: %w", s, ErrBadRange)
	}
	return Range{First: uint32(a), Last: uint32(b)}, nil
}

// String is "N", or "N-M" if there is more than one number.
func (r Range) String() string {
	if r.First == r.Last {
		return strconv.FormatUint(uint64(r.First), 10)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Contains reports whether n is in the range.
func (r Range) Contains(n uint32) bool { return r.First <= n && n <= r.Last }

// Overlaps reports whether the two share a number.
func (r Range) Overlaps(o Range) bool { return r.First <= o.Last && o.First <= r.Last }
