// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"regexp"
	"strings"

	"github.com/sriovkit/sriovkit/libsriov"
)

// DRAName is what DRA drivers for such hardware call a device: its ID as a DNS label, e.g.
// "0000-3b-02-1" or "mlx5-core-sf-4".
func DRAName(id string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if strings.ContainsRune(":._", r) {
			return '-'
		}
		return r
	}, id))
}

var (
	draFunction = regexp.MustCompile(`^([0-9a-f]{4,8})-([0-9a-f]{2})-([0-9a-f]{2})-([0-7])$`)
	draSF       = regexp.MustCompile(`^([a-z0-9]+(?:-[a-z0-9]+)*)-sf-([0-9]+)$`)
)

var auxiliaryID = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[0-9]+$`)

// IsDeviceID reports whether a device can have this ID: a PCI address or a name on the
// auxiliary bus, such as mlx5_core.sf.4.
func IsDeviceID(id string) bool {
	_, err := libsriov.ParseAddress(id)
	return err == nil || auxiliaryID.MatchString(id)
}

// DeviceID is the ID of the device that DRA drivers call so; ok is false for a name that is
// not made from a PCI address or the name of a sub-function.
func DeviceID(draName string) (id string, ok bool) {
	if m := draFunction.FindStringSubmatch(draName); m != nil {
		a, err := libsriov.ParseAddress(m[1] + ":" + m[2] + ":" + m[3] + "." + m[4])
		return a.String(), err == nil
	}
	if m := draSF.FindStringSubmatch(draName); m != nil { // kernel modules have no hyphens in their names
		return strings.ReplaceAll(m[1], "-", "_") + ".sf." + m[2], true
	}
	return "", false
}
