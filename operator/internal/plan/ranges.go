// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Range is a range of VF indexes of a PF, both ends included.
type Range struct{ First, Last int }

// ParseRange parses "first-last", such as "0-3".
func ParseRange(s string) (Range, error) {
	first, last, ok := strings.Cut(s, "-")
	if !ok {
		return Range{}, fmt.Errorf("VF range %q: want first-last, such as 0-3", s)
	}
	var r Range
	var err1, err2 error
	r.First, err1 = parseIndex(first)
	r.Last, err2 = parseIndex(last)
	if err1 != nil || err2 != nil {
		return Range{}, fmt.Errorf("VF range %q: want two VF indexes, such as 0-3", s)
	}
	if r.Last < r.First {
		return Range{}, fmt.Errorf("VF range %q: the last VF comes before the first", s)
	}
	return r, nil
}

// parseIndex parses a VF index, 0 to 65535: TotalVFs of the SR-IOV capability has 16 bits.
func parseIndex(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err
}

func (r Range) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// Contains reports whether VF index i is in r.
func (r Range) Contains(i int) bool { return r.First <= i && i <= r.Last }

// Overlaps reports whether r and o share a VF.
func (r Range) Overlaps(o Range) bool { return r.First <= o.Last && o.First <= r.Last }

// union sorts ranges and merges those that touch or overlap.
func union(rs []Range) []Range {
	slices.SortFunc(rs, func(a, b Range) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	var out []Range
	for _, r := range rs {
		if n := len(out); n > 0 && r.First <= out[n-1].Last+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

// pfName is one entry of nicSelector.pfNames.
type pfName struct {
	name  string
	whole bool // without "#range": all VFs of the policy
	vfs   Range
}

func parsePFName(s string) (pfName, error) {
	name, vfs, ranged := strings.Cut(s, "#")
	if name == "" {
		return pfName{}, fmt.Errorf("nicSelector.pfNames %q: a PF name has to come before the #", s)
	}
	if !ranged {
		return pfName{name: name, whole: true}, nil
	}
	r, err := ParseRange(vfs)
	if err != nil {
		return pfName{}, fmt.Errorf("nicSelector.pfNames %q: %w", s, err)
	}
	return pfName{name: name, vfs: r}, nil
}
