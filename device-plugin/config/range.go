// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sriovkit/sriovkit/libsriov"
)

// Range names functions of one parent: all of them, or those with certain
// numbers. The number is a VF's index, or a sub-function's sfnum.
type Range struct {
	Parent string           // a PF's interface name, or its PCI address
	Only   []libsriov.Range // nil means all
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
		only, err := libsriov.ParseRange(item)
		if err != nil {
			return Range{}, fmt.Errorf("%.60q: item %w", s, err)
		}
		r.Only = append(r.Only, only)
	}
	return r, nil
}

// Contains reports whether a number is in the range.
func (r Range) Contains(n uint32) bool {
	return r.Only == nil || slices.ContainsFunc(r.Only, func(only libsriov.Range) bool { return only.Contains(n) })
}

// String is the form that ParseRange reads.
func (r Range) String() string {
	if r.Only == nil {
		return r.Parent
	}
	items := make([]string, len(r.Only))
	for i, only := range r.Only {
		items[i] = only.String()
	}
	return r.Parent + "#" + strings.Join(items, ",")
}
