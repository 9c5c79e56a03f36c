// SPDX-License-Identifier: Apache-2.0

package value

import (
	"errors"
	"fmt"
	"strconv"
)

// ErrBadAddress: a text is not a PCI address.
var ErrBadAddress = errors.New("not a PCI address (want domain:bus:device.function, e.g. 0000:3b:02.1)")

// Address names one PCI function. It is comparable and orders as the kernel
// lists functions.
type Address struct {
	Domain   uint32 // 0 on most machines; 0x10000 and up behind Intel VMD
	Bus      uint8
	Device   uint8 // 0 to 31
	Function uint8 // 0 to 7
}

// ParseAddress reads "0000:3b:02.1" in either case, or the short form "3b:02.1"
// that tools print for domain 0. Anything else is ErrBadAddress, so that a
// parsed address is always safe as a path element.
func ParseAddress(s string) (Address, error) {
	a, ok := parseAddress(s)
	if !ok {
		return Address{}, fmt.Errorf("%.40q: %w", s, ErrBadAddress)
	}
	return a, nil
}

// parseAddress is ParseAddress without an error's text.
func parseAddress(s string) (a Address, ok bool) {
	domain, rest := "0000", s
	if i := len(s) - len(":bb:dd.f"); i >= 0 && s[i] == ':' {
		domain, rest = s[:i], s[i+1:]
	}
	if len(rest) != len("bb:dd.f") || rest[2] != ':' || rest[5] != '.' || len(domain) < 4 || len(domain) > 8 {
		return Address{}, false
	}
	if len(domain) > 4 && domain[0] == '0' { // the kernel pads a domain to four digits only
		return Address{}, false
	}
	dom, ok1 := ParseHex(domain, 0xffffffff)
	bus, ok2 := ParseHex(rest[:2], 0xff)
	dev, ok3 := ParseHex(rest[3:5], 0x1f)
	fn, ok4 := ParseHex(rest[6:], 7)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return Address{}, false
	}
	return Address{Domain: uint32(dom), Bus: uint8(bus), Device: uint8(dev), Function: uint8(fn)}, true
}

// ParseHex reads bare hexadecimal digits, no sign, prefix or underscore, of a number up to
// most; false for anything else.
func ParseHex(s string, most uint64) (uint64, bool) {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(s, 16, 64)
	return n, err == nil && n <= most
}

// String is the kernel's spelling, also the name of the sysfs directory.
func (a Address) String() string {
	const hex = "0123456789abcdef"
	var b [16]byte
	out := b[:0]
	if a.Domain > 0xffff {
		out = strconv.AppendUint(out, uint64(a.Domain), 16)
	} else {
		out = append(out, hex[a.Domain>>12&15], hex[a.Domain>>8&15], hex[a.Domain>>4&15], hex[a.Domain&15])
	}
	out = append(out, ':', hex[a.Bus>>4], hex[a.Bus&15], ':', hex[a.Device>>4], hex[a.Device&15], '.', hex[a.Function&15])
	return string(out)
}

// MarshalText is String.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is ParseAddress.
func (a *Address) UnmarshalText(text []byte) (err error) {
	*a, err = ParseAddress(string(text))
	return err
}

// Compare orders addresses by domain, bus, device, function.
func (a Address) Compare(b Address) int {
	switch x, y := a.key(), b.key(); {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

func (a Address) key() uint64 {
	return uint64(a.Domain)<<16 | uint64(a.RoutingID())
}

// RoutingID is the bus/device/function number that a requester carries on the
// wire; a VF's is its PF's plus offset plus index times stride (PCIe 9.3.3).
func (a Address) RoutingID() uint16 {
	return uint16(a.Bus)<<8 | uint16(a.Device&31)<<3 | uint16(a.Function&7)
}
