// SPDX-License-Identifier: Apache-2.0

package sriovtest

import (
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// NewNetNS makes a network namespace that lives as long as the test, and skips
// the test for a user who may not. No thread stays in it, and it has no name.
func NewNetNS(t testing.TB) *os.File {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- result{err: err}
			return
		}
		defer home.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- result{err: os.NewSyscallError("unshare", err)}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil { // the program's first thread would keep it for ever
			runtime.UnlockOSThread() // else the thread ends with the goroutine
		}
		done <- result{f, err}
	}()
	r := <-done
	require.NoError(t, r.err)
	t.Cleanup(func() { r.f.Close() })
	return r.f
}
