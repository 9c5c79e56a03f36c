// SPDX-License-Identifier: Apache-2.0

package link

// VFCounters is what a PF counts of a VF's traffic since the VF exists
// (IFLA_VF_STATS). Drivers that do not count leave zeros.
type VFCounters struct {
	RxPackets, TxPackets     uint64
	RxBytes, TxBytes         uint64
	RxBroadcast, RxMulticast uint64 // packets
	RxDropped, TxDropped     uint64 // packets
}
