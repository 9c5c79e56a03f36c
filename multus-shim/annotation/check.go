// SPDX-License-Identifier: Apache-2.0

package annotation

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"strings"
	"unicode"

	"github.com/sriovkit/sriovkit/multus-shim/internal/brief"
)

// defaultBurst is the burst of a rate that comes without one, bits. The specification leaves
// the default open, and the bandwidth plugin refuses a rate without a burst.
const defaultBurst = math.MaxInt32

// CheckNamespace accepts the name of a namespace: a DNS label.
func CheckNamespace(key, value string) error {
	const limit = 63
	if len(value) <= limit && isLabel(value) {
		return nil
	}
	return badName(key, value, "want a DNS label (at most 63 of a-z, 0-9 and -)")
}

// CheckName accepts the name of an object: DNS labels with dots between them.
func CheckName(key, value string) error {
	const limit = 253
	ok := len(value) <= limit
	for label := range strings.SplitSeq(value, ".") {
		ok = ok && isLabel(label)
	}
	if ok {
		return nil
	}
	return badName(key, value, "want the name of an object (at most 253 of a-z, 0-9, - and .)")
}

func isLabel(value string) bool {
	ok := value != "" && value[0] != '-' && value[len(value)-1] != '-'
	for i := 0; ok && i < len(value); i++ {
		c := value[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-'
	}
	return ok
}

func badName(key, value, want string) error {
	if value == "" {
		return fmt.Errorf("%s: missing", key)
	}
	return fmt.Errorf("%s %q: %s", key, brief.Text(value), want)
}

// checkInterface accepts what the kernel takes for a network device. It expands
// "%d" to a number, so that a device of the requested name would not exist.
func checkInterface(name string) error {
	bad := func(r rune) bool {
		return r == '/' || r == ':' || r == '%' || unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar
	}
	if name == "all" || name == "default" {
		return fmt.Errorf("%q is no interface name: the kernel has its settings for all interfaces by it", name)
	}
	if name == "" || len(name) > 15 || name == "." || name == ".." || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("%q is no interface name: want 1 to 15 bytes without '/', ':', '%%' and white space, not '.' or '..'", brief.Text(name))
	}
	return nil
}

func checkIP(s string) error {
	prefix, err := netip.ParsePrefix(s)
	addr := prefix.Addr()
	if err != nil {
		addr, err = netip.ParseAddr(s)
	}
	if err != nil || addr.Zone() != "" {
		return fmt.Errorf("%q is no IP address, with or without prefix length", brief.Text(s))
	}
	return nil
}

func checkHardware(s string, size int) error {
	address, err := net.ParseMAC(s)
	if err != nil || len(address) != size {
		return fmt.Errorf("%q is no address of %d bytes", brief.Text(s), size)
	}
	return nil
}

// normalise validates a mapping and writes its protocol in lower case.
func (m *PortMapping) normalise() error {
	for key, port := range map[string]int{"hostPort": m.HostPort, "containerPort": m.ContainerPort} {
		if port < 1 || port > math.MaxUint16 {
			return fmt.Errorf("%s %d: want 1 to 65535", key, port)
		}
	}
	protocol := strings.ToLower(m.Protocol)
	switch protocol {
	case "":
		protocol = "tcp"
	case "tcp", "udp", "sctp":
	default:
		return fmt.Errorf("protocol %q: want TCP, UDP or SCTP", brief.Text(m.Protocol))
	}
	m.Protocol = protocol
	if m.HostIP != "" {
		if addr, err := netip.ParseAddr(m.HostIP); err != nil || addr.Zone() != "" {
			return fmt.Errorf("hostIP %q: want an IP address", brief.Text(m.HostIP))
		}
	}
	return nil
}

// setRate validates one direction and stores it. A rate of 0 is how generators
// write that there is no limit.
func setRate(rate, burst *int64, direction string, haveRate, haveBurst *int64) error {
	none := func(p *int64) bool { return p == nil || *p == 0 }
	switch {
	case none(haveRate) && none(haveBurst):
		return nil
	case none(haveRate):
		return fmt.Errorf("%sBurst needs %sRate", direction, direction)
	case *haveRate < 0:
		return fmt.Errorf("%sRate %d: want more than 0 bit/s", direction, *haveRate)
	case haveBurst != nil && *haveBurst < 0:
		return fmt.Errorf("%sBurst %d: want more than 0 bit", direction, *haveBurst)
	}
	*rate, *burst = *haveRate, defaultBurst
	if !none(haveBurst) {
		*burst = *haveBurst
	}
	return nil
}
