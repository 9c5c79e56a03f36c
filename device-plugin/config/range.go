package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Range names functions of one parent: all of them, or those with certain
// numbers. The number is a VF's index, or a sub-function's sfnum.
type Range struct {
	Parent string     // a PF's interface name, or its PCI address
	Only   []Interval // nil means all
}

// Interval is First to Last, both included.
type Interval struct {
	First, Last uint32
}

var errRange = errors.New(`want NAME or NAME#N,N-M,… with numbers from 0, no blanks, e.g. "eth0#0-3,7"`)

// ParseRange reads NAME[#item(,item)*], where an item is N or N-M.
func ParseRange(s string) (Range, error) {
	parent, list, limited := strings.Cut(s, "#")
	if parent == "" || strings.ContainsAny(parent, " \t\r\n/") {
		return Range{}, fmt.Errorf("%.60q: bad name before #: %w", s, errRange)
	}
	r := Range{Parent: parent}
	if !limited {
		return r, nil
	}
	for item := range strings.SplitSeq(list, ",") {
		i, err := parseInterval(item)
		if err != nil {
			return Range{}, fmt.Errorf("%.60q: item %.20q: %w", s, item, err)
		}
		r.Only = append(r.Only, i)
	}
	return r, nil
}

func parseInterval(s string) (Interval, error) {
	first, last, both := strings.Cut(s, "-")
	if !both {
		last = first
	}
	a, err1 := strconv.ParseUint(first, 10, 32)
	b, err2 := strconv.ParseUint(last, 10, 32)
	switch {
	case err1 != nil || err2 != nil || first[0] == '+' || last[0] == '+':
		return Interval{}, errRange
	case a > b:
		return Interval{}, fmt.Errorf("starts after its end; write %d-%d", b, a)
	}
	return Interval{First: uint32(a), Last: uint32(b)}, nil
}

// Contains tells whether a number is in the range.
func (r Range) Contains(n uint32) bool {
	return r.Only == nil || slices.ContainsFunc(r.Only, func(i Interval) bool { return i.First <= n && n <= i.Last })
}

// String is the form that ParseRange reads.
func (r Range) String() string {
	if r.Only == nil {
		return r.Parent
	}
	items := make([]string, len(r.Only))
	for i, o := range r.Only {
		items[i] = strconv.FormatUint(uint64(o.First), 10)
		if o.First != o.Last {
			items[i] += "-" + strconv.FormatUint(uint64(o.Last), 10)
		}
	}
	return r.Parent + "#" + strings.Join(items, ",")
}
