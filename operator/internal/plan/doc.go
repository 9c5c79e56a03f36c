// SPDX-License-Identifier: Apache-2.0

// Package plan decides, and touches nothing. Node turns policies and what a node's
// daemon reported into the spec of that node; Steps turns that spec and what the
// daemon sees now into ordered work, each step knowing which VFs it disturbs.
//
// Both are functions of their arguments: no clock, no I/O, no dependence on the
// order in which policies or PFs are listed. A policy that cannot be honoured gets a
// verdict and harms no other policy.
package plan
