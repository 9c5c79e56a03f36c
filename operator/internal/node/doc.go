// SPDX-License-Identifier: Apache-2.0

// Package node is the operator's part on each node. It discovers the network
// functions and reports them in the node's SriovNetworkNodeState, brings them to the
// spec of that object, and tells the device plugin which VFs to offer.
//
// What to do is decided in package plan; this package looks and acts. Hardware is
// read and changed through libsriov alone. It needs root, the host's file system and
// the host's network namespace; it never edits boot configuration and never reboots.
//
// Files on the host, below its root; the directories are settings:
//
//	/etc/sriov-operator/pci/ADDRESS                    what was applied to a PF: the proof that it is ours
//	/etc/sriov-operator/device-plugin/config.json      the device plugin's configuration
//	/etc/sriov-operator/infiniband/guids               GUIDs for VFs, from an admin; read, never written
//	/etc/udev/rules.d/10-nm-disable-ADDRESS.rules      keeps NetworkManager off the VFs of a PF
//	/etc/udev/rules.d/10-pf-name-ADDRESS.rules         keeps the name of a PF in switchdev mode
//	/etc/udev/rules.d/20-switchdev-ADDRESS.rules       names the representors of its VFs: PF_0, PF_1, ...
//	/etc/modprobe.d/sriov_network_operator_modules_config.conf   RDMA mode of later boots
//	/run/sriov-operator/                               what ends with a reboot: see createBare, worthDraining
package node
