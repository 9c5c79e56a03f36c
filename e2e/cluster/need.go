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
	need(t, "cluster")
}

// NeedLong skips a test outside the long tier (SRIOVKIT_E2E=long, or 1): what a cluster does
// in minutes, and not at every change.
func NeedLong(t interface {
	Helper()
	Skip(args ...any)
}) {
	t.Helper()
	need(t, "long")
}

func need(t interface {
	Helper()
	Skip(args ...any)
}, tier string) {
	t.Helper()
	if runs := os.Getenv("SRIOVKIT_E2E"); runs != tier && runs != "1" {
		t.Skip("starts a cluster of emulated nodes; run make test-" + tier)
	}
}
