// SPDX-License-Identifier: Apache-2.0

// Package node is the daemon that the operator runs on each node. It discovers network
// functions and reports them in the status of the node's SriovNetworkNodeState, configures
// them as the spec of that object says, and writes the configuration of the device plugin.
//
// Package plan computes the steps; this package observes the host and carries them out,
// through libsriov. It needs root, the host's file system and the host's network
// namespace. It never edits the boot configuration and never reboots.
//
// Files on the host, below its root; the directories are settings:
//
//	/etc/sriov-operator/pci/ADDRESS                    what was applied to a PF; only such PFs are released
//	/etc/sriov-operator/device-plugin/config.json      the device plugin's configuration
//	/etc/sriov-operator/infiniband/guids               GUIDs for VFs, from an admin; read, never written
//	/etc/udev/rules.d/10-nm-disable-ADDRESS.rules      keeps NetworkManager off the VFs of a PF
//	/etc/udev/rules.d/10-pf-name-ADDRESS.rules         keeps the name of a PF in switchdev mode
//	/etc/udev/rules.d/20-switchdev-ADDRESS.rules       names the representors of its VFs: PF_0, PF_1, ...
//	/etc/modprobe.d/sriov_network_operator_modules_config.conf   RDMA mode of later boots
//	/run/sriov-operator/                               what a reboot voids: see bareDir, macDir, failedDir
package node
