// SPDX-License-Identifier: Apache-2.0

package link

import "net/netip"

// Route is a unicast route by way of one interface. Of a multipath route there
// is one for each next hop.
type Route struct {
	Dst      netip.Prefix // 0 bits is the default route
	Gateway  netip.Addr   // RTA_GATEWAY; not valid: Dst is on the link
	Index    int          // RTA_OIF: interface
	Table    int          // RTA_TABLE; 0 is the main table when a route is added
	Priority int          // RTA_PRIORITY: the metric; 0 lets the kernel choose when a route is added
	Scope    uint8        // RT_SCOPE_*; 0 is the universe
	MTU      int          // RTAX_MTU, bytes; 0 is the interface's
	AdvMSS   int          // RTAX_ADVMSS, bytes; 0 follows from the MTU
}
