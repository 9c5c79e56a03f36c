// SPDX-License-Identifier: Apache-2.0

package node

import (
	"github.com/sriovkit/sriovkit/libsriov"
)

// vfIDs are the vendor and device IDs of network functions that hypervisors pass to virtual
// machines: VFs of common NICs (from the drivers' MODULE_DEVICE_TABLE), virtio-net and cloud
// NICs. Inside a virtual machine the configuration space does not tell a VF from a NIC of its
// own; this table does. A VF whose PF is visible needs no entry.
var vfIDs = map[[2]libsriov.ID]bool{
	{0x8086, 0x10ca}: true, // 82576 (igbvf)
	{0x8086, 0x1520}: true, // I350 (igbvf)
	{0x8086, 0x10ed}: true, // 82599 (ixgbevf)
	{0x8086, 0x1515}: true, // X540 (ixgbevf)
	{0x8086, 0x1565}: true, // X550 (ixgbevf)
	{0x8086, 0x15a8}: true, // X552 (ixgbevf)
	{0x8086, 0x15c5}: true, // X553 (ixgbevf)
	{0x8086, 0x154c}: true, // 700 series (iavf)
	{0x8086, 0x37cd}: true, // X722 (iavf)
	{0x8086, 0x1889}: true, // adaptive VF, 700 and 800 series (iavf)
	{0x15b3, 0x1014}: true, // ConnectX-4 (mlx5_core)
	{0x15b3, 0x1016}: true, // ConnectX-4 Lx
	{0x15b3, 0x1018}: true, // ConnectX-5
	{0x15b3, 0x101a}: true, // ConnectX-5 Ex
	{0x15b3, 0x101c}: true, // ConnectX-6
	{0x15b3, 0x101e}: true, // ConnectX family
	{0x14e4, 0x16dc}: true, // NetXtreme-E (bnxt_en)
	{0x14e4, 0x1806}: true, // BCM5750X (bnxt_en)
	{0x14e4, 0x16c1}: true, // NetXtreme-E (bnxt_en)
	{0x1077, 0x8090}: true, // FastLinQ (qede)
	{0x1af4, 0x1000}: true, // virtio-net, transitional
	{0x1af4, 0x1041}: true, // virtio-net
	{0x1d0f, 0xec20}: true, // Elastic Network Adapter (ena)
	{0x1ae0, 0x0042}: true, // Google Virtual Ethernet (gve)
}

func isVF(f libsriov.Function) bool { return vfIDs[[2]libsriov.ID{f.Vendor, f.Device}] }
