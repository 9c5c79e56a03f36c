// SPDX-License-Identifier: Apache-2.0

package vm

import "os"

// Need skips a test outside the node tier (SRIOVKIT_E2E=node, or 1 for every tier):
// booting nodes takes gigabytes of memory and, the first time, minutes.
func Need(t interface {
	Helper()
	Skip(args ...any)
}) {
	t.Helper()
	if tier := os.Getenv("SRIOVKIT_E2E"); tier != "node" && tier != "1" {
		t.Skip("boots an emulated node; run make test-node")
	}
}
