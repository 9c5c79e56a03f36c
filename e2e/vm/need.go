package vm

import "os"

// Need skips a test unless SRIOVKIT_E2E=1: booting nodes takes gigabytes of
// memory and, the first time, minutes.
func Need(t interface {
	Helper()
	Skip(args ...any)
}) {
	t.Helper()
	if os.Getenv("SRIOVKIT_E2E") != "1" {
		t.Skip("boots an emulated node; set SRIOVKIT_E2E=1 or run make test-node, make test-cluster")
	}
}
