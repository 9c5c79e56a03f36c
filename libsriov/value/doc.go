// SPDX-License-Identifier: Apache-2.0

// Package value holds the words that every part of sriovkit has in common: PCI
// addresses, ranges of VF indexes, GUIDs, and what kind of driver a name stands
// for. They are plain values: nothing here makes a system call, so a program
// that plans for other machines may import it.
package value
