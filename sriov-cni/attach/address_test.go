// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"net"
	"net/netip"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
)

func TestPrefix(t *testing.T) {
	t.Parallel()
	four, sixteen := net.IPv4(192, 0, 2, 7).To4(), net.IPv4(192, 0, 2, 7).To16()
	for name, tc := range map[string]struct {
		in   net.IPNet
		want string // "" is an error
	}{
		"IPv4":                  {net.IPNet{IP: four, Mask: net.CIDRMask(24, 32)}, "192.0.2.7/24"},
		"IPv4 in sixteen bytes": {net.IPNet{IP: sixteen, Mask: net.CIDRMask(24, 32)}, "192.0.2.7/24"},
		"IPv4 default":          {net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, "0.0.0.0/0"},
		"IPv6":                  {net.IPNet{IP: net.ParseIP("2001:db8::7"), Mask: net.CIDRMask(64, 128)}, "2001:db8::7/64"},
		"IPv6 default":          {net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, "::/0"},
		"no address":            {net.IPNet{Mask: net.CIDRMask(24, 32)}, ""},
		"no mask":               {net.IPNet{IP: four}, ""},
		"mask with holes":       {net.IPNet{IP: four, Mask: net.IPv4Mask(255, 0, 255, 0)}, ""},
		"mask of IPv6 for IPv4": {net.IPNet{IP: four, Mask: net.CIDRMask(120, 128)}, ""},
		"mask of IPv4 for IPv6": {net.IPNet{IP: net.ParseIP("2001:db8::7"), Mask: net.CIDRMask(24, 32)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Prefix(tc.in)
			if tc.want == "" {
				assert.ErrorContains(t, err, "IPAM plugin")
				return
			}
			assert.NoError(t, err)
			assert.Equal(t, netip.MustParsePrefix(tc.want), got)
		})
	}
}

// A number that the kernel would cut to another is an error that names it.
func TestRouteNumbers(t *testing.T) {
	t.Parallel()
	dst := net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	for field, r := range map[string]types.Route{
		"":         {MTU: 1400, AdvMSS: 1360, Priority: 1<<32 - 1, Table: new(1000), Scope: new(255)},
		"mtu":      {MTU: -1},
		"advmss":   {AdvMSS: 1 << 32},
		"priority": {Priority: -5},
		"table":    {Table: new(1 << 33)},
		"scope":    {Scope: new(256)},
	} {
		r.Dst = dst
		err := checkRoute(&r)
		if field == "" {
			assert.NoError(t, err)
			continue
		}
		assert.ErrorContains(t, err, "of "+field+" ")
	}
}
