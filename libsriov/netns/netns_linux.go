// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Within runs call on a thread that is in the namespace that ns is open on; in
// the caller's own if ns is nil. What call opens there, sockets above all, stays
// in that namespace. A thread that cannot return is thrown away.
func Within(ns *os.File, call func() error) error {
	if ns == nil {
		return call()
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			result <- err
			return // still locked: the runtime ends the thread
		}
		defer home.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread() // nothing has changed
			result <- fmt.Errorf("enter network namespace %s: %w", ns.Name(), err)
			return
		}
		err = call()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}
