// SPDX-License-Identifier: Apache-2.0

// Package soak makes randomized tests longer: SRIOVKIT_SOAK is how many times as many runs
// they make as in make test, 1 if it is not set. make soak sets it.
package soak

import (
	"os"
	"strconv"
)

// Times is n times as often as the environment says.
func Times(n int) int {
	if factor, err := strconv.Atoi(os.Getenv("SRIOVKIT_SOAK")); err == nil && factor > 0 {
		return n * factor
	}
	return n
}
