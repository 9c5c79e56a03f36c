// SPDX-License-Identifier: Apache-2.0

package cluster

import "os"

// Need skips a test outside the cluster tier (SRIOVKIT_E2E=cluster, or 1 for every tier):
// a cluster takes gigabytes of memory and, the first time, minutes.
func Need(t interface {
	Helper()
	Skip(args ...any)
}) {
	t.Helper()
	if tier := os.Getenv("SRIOVKIT_E2E"); tier != "cluster" && tier != "1" {
		t.Skip("starts a cluster of emulated nodes; run make test-cluster")
	}
}
