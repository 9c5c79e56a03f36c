// SPDX-License-Identifier: Apache-2.0

// Package plan computes what a node should look like and how to get there. It does no
// I/O. Node turns policies and the node's reported status into the node's spec; Steps
// turns that spec and what the daemon sees now into ordered steps, each with the VFs
// whose users would notice it.
//
// Both are functions of their arguments: no clock, no I/O, no dependence on the
// order in which policies or PFs are listed. A policy that cannot be honoured gets a
// verdict and harms no other policy.
package plan
