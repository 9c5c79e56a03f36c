// SPDX-License-Identifier: Apache-2.0

// Package oneproc makes the process run its Go code on one processor. In a command of a CNI
// plugin there is nothing to do in parallel but waiting.
//
// It imports the runtime alone, so that Go initializes it before nearly all others
// (https://go.dev/ref/spec#Package_initialization). A processor that is given up later, in
// main, has allocated by then, and its caches are written back: a twentieth of the own CPU
// time of an ADD with three networks.
package oneproc

import "runtime"

func init() { runtime.GOMAXPROCS(1) }
