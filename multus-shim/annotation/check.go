package annotation

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"strings"
	"unicode"
)

// defaultBurst stands in where a rate comes without its burst, which the
// specification lets us choose and the bandwidth plugin insists on. Bits.
const defaultBurst = math.MaxInt32

// checkLabel accepts DNS-1123 labels, the names of NADs and namespaces.
func checkLabel(key, value string) error {
	ok := value != "" && len(value) <= 63 && value[0] != '-' && value[len(value)-1] != '-'
	for i := 0; ok && i < len(value); i++ {
		c := value[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-'
	}
	switch {
	case ok:
		return nil
	case value == "":
		return fmt.Errorf("%s: missing", key)
	}
	const limit = 70
	if len(value) > limit {
		value = value[:limit] + "..."
	}
	return fmt.Errorf("%s %q: want a DNS label (at most 63 of a-z, 0-9 and -)", key, value)
}

// checkInterface accepts what the kernel takes for a network device.
func checkInterface(name string) error {
	bad := func(r rune) bool {
		return r == '/' || r == ':' || unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar
	}
	if name == "" || len(name) > 15 || name == "." || name == ".." || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("%q is no interface name: want 1 to 15 bytes without '/', ':' and white space, not '.' or '..'", name)
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
		return fmt.Errorf("%q is no IP address, with or without prefix length", s)
	}
	return nil
}

func checkHardware(s string, size int) error {
	address, err := net.ParseMAC(s)
	if err != nil || len(address) != size {
		return fmt.Errorf("%q is no address of %d bytes", s, size)
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
		return fmt.Errorf("protocol %q: want TCP, UDP or SCTP", m.Protocol)
	}
	m.Protocol = protocol
	if m.HostIP != "" {
		if _, err := netip.ParseAddr(m.HostIP); err != nil {
			return fmt.Errorf("hostIP %q: want an IP address", m.HostIP)
		}
	}
	return nil
}

// setRate validates one direction and stores it.
func setRate(rate, burst *int64, direction string, haveRate, haveBurst *int64) error {
	switch {
	case haveRate == nil && haveBurst == nil:
		return nil
	case haveRate == nil:
		return fmt.Errorf("%sBurst needs %sRate", direction, direction)
	case *haveRate <= 0:
		return fmt.Errorf("%sRate %d: want more than 0 bit/s", direction, *haveRate)
	case haveBurst != nil && *haveBurst <= 0:
		return fmt.Errorf("%sBurst %d: want more than 0 bit", direction, *haveBurst)
	}
	*rate, *burst = *haveRate, defaultBurst
	if haveBurst != nil {
		*burst = *haveBurst
	}
	return nil
}
